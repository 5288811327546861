//! SQLite's variable-length integers: big-endian, 7 bits a byte, 8 in the ninth (SQLite file format §1.6).

/// Takes one from the front of `rest`; `None` if it does not end there.
pub fn take(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for at in 0..9 {
        let byte = *rest.get(at)?;
        if at == 8 {
            value = value << 8 | u64::from(byte);
        } else {
            value = value << 7 | u64::from(byte & 0x7f);
        }
        if at == 8 || byte < 0x80 {
            *rest = &rest[at + 1..];
            return Some(value as i64);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_one_to_nine_bytes() {
        let check = |bytes: &[u8], expected: Option<(i64, usize)>| {
            let mut rest = bytes;
            assert_eq!(take(&mut rest).map(|value| (value, rest.len())), expected, "{bytes:?}");
        };
        check(&[0x7f], Some((127, 0)));
        check(&[0x81, 0x00, 9], Some((128, 1)));
        check(&[0xff; 9], Some((-1, 0)));
        check(&[0x80; 8], None);
        check(&[], None);
    }
}
