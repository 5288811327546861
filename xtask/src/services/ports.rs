//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::failure::Failure;

/// Below those that Linux gives to outgoing connections (32768 and up), so that what is free stays free until it is used; and so far below
/// that [`SECOND`] can be added.
const RANGE: Range<u16> = 20_000..22_000;

/// Some servers take a second port, so far above the first.
pub const SECOND: u16 = 10_000;

/// Ports that nobody listens on, nor on those [`SECOND`] above them.
pub fn free<const COUNT: usize>() -> Result<[u16; COUNT], Failure> {
    // Different processes begin at different places, so as not to choose the same ones at the same time.
    let width = u32::from(RANGE.end - RANGE.start);
    let first = u16::try_from(std::process::id().wrapping_mul(16) % width).unwrap_or(0);
    let candidates = (RANGE.start + first..RANGE.end).chain(RANGE.start..RANGE.start + first);
    let found: Vec<u16> = candidates.filter(|port| is_free(*port) && is_free(port + SECOND)).take(COUNT).collect();
    found.try_into().map_err(|_| Failure::new(format!("there are not {COUNT} free ports from {RANGE:?}")))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let [first, second] = free().unwrap();
        assert_ne!(first, second);
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first + SECOND)).unwrap();
        assert!(!free::<2>().unwrap().contains(&first));
    }
}
