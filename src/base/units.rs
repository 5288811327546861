//! Padding of lengths.

/// The length that `length` is padded to so that it tells little about its content: Padmé
/// (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
/// PoPETs 2019, algorithm 1). At most 12 % longer, and less the longer.
pub fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1u64 << exponent.saturating_sub(kept_bits)) - 1;
    length.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padme_is_idempotent_monotone_and_bounded() {
        let mut last = 0;
        for length in (0..5000).chain((1 << 24) - 3..(1 << 24) + 3) {
            let padded = padme(length);
            assert!(padded >= length && padded >= last, "{length}");
            assert!(padded <= length + length * 12 / 100 + 1, "{length} -> {padded}");
            assert_eq!(padme(padded), padded);
            last = padded;
        }
        assert_eq!(padme(16 << 20), 16 << 20);
        assert_eq!(padme(1_000_001), 1_015_808);
    }
}
