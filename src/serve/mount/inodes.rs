//! The numbers by which the kernel knows nodes.
//!
//! # Invariants
//! * The number of a node is a hash of its identity: it is the same whenever and wherever the node is found, so what the kernel keeps of a file stays right.
//! * At most [`MOST`] nodes are remembered. One that is needed again after it went is found anew by its path: the kernel does so when it is told `ESTALE`.
//! * Should two nodes have the same hash, the later one gets the next number that is free.

use std::collections::{BTreeMap, HashMap};

use super::tree::Node;

/// The root's number is given.
pub const ROOT: u64 = 1;

/// Nodes that are remembered: each takes some hundred bytes.
const MOST: usize = 1 << 16;

/// See the module documentation.
pub struct Inodes {
    known: HashMap<u64, Known>,
    /// When each was used last: the first is the first to go.
    order: BTreeMap<u64, u64>,
    turn: u64,
    most: usize,
}

struct Known {
    node: Node,
    turn: u64,
}

impl Default for Inodes {
    fn default() -> Self {
        Self { known: HashMap::new(), order: BTreeMap::new(), turn: 0, most: MOST }
    }
}

impl Inodes {
    /// The number of a node that is not remembered for it.
    pub fn number(node: &Node) -> u64 {
        if *node == Node::Root {
            return ROOT;
        }
        let hash = blake3::hash(node.identity().as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk().expect("BUG: a hash has 32 bytes");
        u64::from_le_bytes(*first).max(ROOT + 1)
    }

    /// Remembers a node; returns its number.
    pub fn remember(&mut self, node: Node) -> u64 {
        let mut number = Self::number(&node);
        let identity = node.identity();
        while self.known.get(&number).is_some_and(|known| known.node.identity() != identity) {
            number = number.wrapping_add(1).max(ROOT + 1);
        }
        let turn = self.next_turn();
        if let Some(before) = self.known.insert(number, Known { node, turn }) {
            self.order.remove(&before.turn);
        }
        self.order.insert(turn, number);
        while self.known.len() > self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.known.remove(&oldest);
        }
        number
    }

    /// The node of that number.
    pub fn node(&mut self, number: u64) -> Option<Node> {
        if number == ROOT {
            return Some(Node::Root);
        }
        let turn = self.next_turn();
        let known = self.known.get_mut(&number)?;
        self.order.remove(&known.turn);
        known.turn = turn;
        self.order.insert(turn, number);
        Some(known.node.clone())
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_few_are_remembered() {
        let mut inodes = Inodes { most: 3, ..Inodes::default() };
        let node = |n: u32| Node::Database(n.to_string());
        let numbers: Vec<u64> = (0..4).map(|n| inodes.remember(node(n))).collect();
        assert_eq!(inodes.node(numbers[0]), None);
        assert_eq!(inodes.node(numbers[1]), Some(node(1)));
        // The one that was used last stays.
        assert_eq!(inodes.remember(node(0)), numbers[0]);
        assert_eq!((inodes.node(numbers[1]), inodes.node(numbers[2])), (Some(node(1)), None));
        assert_eq!((inodes.known.len(), inodes.order.len()), (3, 3));
        assert_eq!(inodes.node(ROOT), Some(Node::Root));
    }

    #[test]
    fn of_two_nodes_with_one_hash_each_stays_itself() {
        let mut inodes = Inodes::default();
        let node = Node::Tags;
        let number = Inodes::number(&node);
        inodes.known.insert(number, Known { node: Node::ById, turn: 0 });
        assert_eq!(inodes.remember(node.clone()), number + 1);
        assert_eq!((inodes.node(number + 1), inodes.node(number)), (Some(node), Some(Node::ById)));
    }
}
