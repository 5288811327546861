//! Which packs are read, those first that were read longest ago, and how much of a repository was read when.
//!
//! What is remembered stays on this machine, and is bounded by what is there: losing it costs reading again.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::base::clock::UnixMicros;
use crate::base::id::{ObjectHash, RepositoryId};
use crate::format::checked::{self, CheckedPack, CheckedPacks};
use crate::store::state::LocalState;

/// Which packs to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReadData {
    /// None.
    #[default]
    Nothing,
    /// So large a share of their bytes, from 0 to 1.
    Share(f64),
    /// So many bytes.
    Bytes(u64),
    /// All.
    All,
}

/// How much of the repository was read by this client, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Packs that are there.
    pub pack_count: usize,
    /// Of these, those that were never read.
    pub never_count: usize,
    /// When that was read that was read longest ago.
    pub oldest: Option<UnixMicros>,
}

/// See the module documentation.
pub struct Rotation<'a> {
    state: Option<&'a LocalState>,
    name: String,
    packs: CheckedPacks,
}

impl<'a> Rotation<'a> {
    /// What this client remembers of a repository.
    pub fn load(state: Option<&'a LocalState>, repository: RepositoryId) -> Self {
        let name = format!("{repository}/checked");
        let content = state.and_then(|state| state.read(&name).ok().flatten());
        let packs = content.and_then(|content| checked::parse(&content)).unwrap_or_default();
        Self { state, name, packs }
    }

    /// The packs to read, in order: those that were never read, then those that were read longest ago. At least one, if anything is to be read.
    pub fn choose(&self, packs: &[(ObjectHash, u64)], amount: ReadData) -> Vec<ObjectHash> {
        let total: u64 = packs.iter().map(|(_, bytes)| bytes).sum();
        let wanted = match amount {
            ReadData::Nothing => return Vec::new(),
            ReadData::Share(share) => (total as f64 * share).ceil() as u64,
            ReadData::Bytes(bytes) => bytes,
            ReadData::All => u64::MAX,
        };
        let mut order: Vec<(Option<UnixMicros>, ObjectHash, u64)> = packs
            .iter()
            .map(|&(pack, bytes)| (self.packs.get(&pack).map(|checked| checked.read), pack, bytes))
            .collect();
        order.sort_unstable();
        let mut chosen_bytes = 0u64;
        let within = order.into_iter().take_while(|(_, _, bytes)| {
            let is_room = chosen_bytes < wanted;
            chosen_bytes += bytes;
            is_room
        });
        within.map(|(_, pack, _)| pack).collect()
    }

    /// Remembers that a pack was read.
    pub fn note(&mut self, pack: ObjectHash, read: UnixMicros, is_damaged: bool) {
        self.packs.insert(pack, CheckedPack { read, is_damaged });
    }

    /// Packs that were damaged when they were read last.
    pub fn damaged(&self) -> impl Iterator<Item = ObjectHash> {
        self.packs.iter().filter(|(_, checked)| checked.is_damaged).map(|(&pack, _)| pack)
    }

    /// How much of these packs was read, and when.
    pub fn coverage(&self, packs: &[(ObjectHash, u64)]) -> Coverage {
        let read: Vec<UnixMicros> =
            packs.iter().filter_map(|(pack, _)| self.packs.get(pack)).map(|checked| checked.read).collect();
        Coverage { pack_count: packs.len(), never_count: packs.len() - read.len(), oldest: read.into_iter().min() }
    }

    /// Keeps what is known of these packs, which are all that are there. Best effort.
    pub fn save(mut self, there: &[(ObjectHash, u64)]) {
        let Some(state) = self.state else { return };
        let there: HashSet<ObjectHash> = there.iter().map(|&(pack, _)| pack).collect();
        self.packs.retain(|pack, _| there.contains(pack));
        if self.packs.len() > checked::MAX_CHECKED_PACKS {
            // Those that were read longest ago are read again first.
            let mut newest: Vec<(ObjectHash, CheckedPack)> = std::mem::take(&mut self.packs).into_iter().collect();
            newest.sort_unstable_by_key(|(_, checked)| Reverse(checked.read));
            self.packs = newest.into_iter().take(checked::MAX_CHECKED_PACKS).collect();
        }
        let _ = state.write(&self.name, &checked::encode(&self.packs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(bytes: &[u64]) -> Vec<(ObjectHash, u64)> {
        bytes.iter().zip(1..).map(|(&bytes, name)| (ObjectHash([name; 32]), bytes)).collect()
    }

    fn chosen(rotation: &Rotation<'_>, packs: &[(ObjectHash, u64)], amount: ReadData) -> Vec<u8> {
        rotation.choose(packs, amount).into_iter().map(|pack| pack.0[0]).collect()
    }

    #[test]
    fn what_was_read_longest_ago_comes_first() {
        let folder = tempfile::tempdir().expect("BUG: a folder");
        let (state, repository) = (LocalState::new(folder.path().to_owned()), RepositoryId([1; 16]));
        let packs = packs(&[10, 10, 10, 10]);
        let mut rotation = Rotation::load(Some(&state), repository);
        assert_eq!(chosen(&rotation, &packs, ReadData::All), [1, 2, 3, 4]);
        assert_eq!(chosen(&rotation, &packs, ReadData::Share(0.5)), [1, 2]);
        assert_eq!(chosen(&rotation, &packs, ReadData::Bytes(11)), [1, 2]);
        assert_eq!(chosen(&rotation, &packs, ReadData::Bytes(1)), [1]);
        assert_eq!(chosen(&rotation, &packs, ReadData::Nothing), [] as [u8; 0]);
        rotation.note(packs[0].0, UnixMicros(50), false);
        rotation.note(packs[2].0, UnixMicros(40), true);
        rotation.note(ObjectHash([9; 32]), UnixMicros(1), true);
        rotation.save(&packs);
        let rotation = Rotation::load(Some(&state), repository);
        assert_eq!(chosen(&rotation, &packs, ReadData::All), [2, 4, 3, 1]);
        assert_eq!(rotation.damaged().collect::<Vec<_>>(), [packs[2].0], "what is not there is forgotten");
        let coverage = Coverage { pack_count: 4, never_count: 2, oldest: Some(UnixMicros(40)) };
        assert_eq!(rotation.coverage(&packs), coverage);
        assert_eq!(Rotation::load(None, repository).coverage(&packs[..1]).never_count, 1);
    }
}
