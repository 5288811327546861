//! CBOR (RFC 8949), bounded before it is decoded.
//!
//! The decoder behind it, serde_cbor, is no longer maintained; it stands behind this one module. [`decode`] first walks the bytes without
//! allocating and refuses what the specification refuses: indefinite lengths, tags, floats, deep nesting, lengths
//! beyond the input, trailing bytes. What is then decoded can allocate no more than its own length suggests. serde is lenient about types (an
//! array passes for a struct, text for bytes), so the value is encoded again and must say the same as the input.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::FormatError;

/// How deep arrays and maps may nest.
const MAX_DEPTH: usize = 16;

/// Encodes a wire type. Structs become maps with text keys in the order of their fields: the output is deterministic.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("BUG: wire types hold only what CBOR can say")
}

/// Decodes exactly one value.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    let rest = check_item(bytes, MAX_DEPTH)?;
    if !rest.is_empty() {
        return Err(FormatError::malformed(format!("{} bytes follow the CBOR value", rest.len())));
    }
    let mut decoder = serde_cbor::Deserializer::from_slice(bytes).disable_packed_format().disable_legacy_enums();
    let value = T::deserialize(&mut decoder).map_err(|error| FormatError::malformed(error.to_string()))?;
    if means(&value, bytes) {
        Ok(value)
    } else {
        Err(FormatError::malformed("CBOR items are not of the types that are asked for"))
    }
}

/// Whether the bytes say what the value says, in whatever order and lengths another encoder chose. What is decoded may be a key: no copy of it stays in memory.
fn means<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    let again = Zeroizing::new(encode(value));
    if *again == bytes {
        return true;
    }
    let (mut said, mut meant) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
    normalise(bytes, &mut said);
    normalise(&again, &mut meant);
    said == meant
}

/// Appends one data item that [`check_item`] has accepted, with heads of one length and sorted keys, and returns what follows it.
fn normalise<'a>(bytes: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
    let Some((&initial, rest)) = bytes.split_first() else { return bytes };
    let (major, minor) = (initial >> 5, initial & 31);
    let Ok((argument, mut rest)) = argument(minor, rest) else { return rest };
    output.push(initial & 0xe0);
    output.extend(argument.to_be_bytes());
    match major {
        2 | 3 => {
            let (content, tail) = rest.split_at((argument as usize).min(rest.len()));
            output.extend(content);
            rest = tail;
        }
        4 => (0..argument).for_each(|_| rest = normalise(rest, output)),
        5 => {
            let mut entries: Vec<Vec<u8>> = Vec::new();
            for _ in 0..argument {
                let mut entry = Vec::new();
                rest = normalise(rest, &mut entry);
                rest = normalise(rest, &mut entry);
                entries.push(entry);
            }
            entries.sort_unstable();
            output.extend(entries.concat());
        }
        _ => {}
    }
    rest
}

/// Walks one data item and returns what follows it.
fn check_item(bytes: &[u8], depth: usize) -> Result<&[u8], FormatError> {
    let (&initial, rest) = bytes.split_first().ok_or_else(|| FormatError::malformed("CBOR ends too early"))?;
    let (major, minor) = (initial >> 5, initial & 31);
    let (argument, rest) = argument(minor, rest)?;
    match major {
        0 | 1 => Ok(rest),
        2 | 3 => {
            let length = usize::try_from(argument).unwrap_or(usize::MAX);
            rest.get(length..).ok_or_else(|| FormatError::malformed("CBOR string is longer than the input"))
        }
        4 | 5 => check_items(rest, argument.saturating_mul(u64::from(major - 3)), depth),
        7 if (20..=22).contains(&minor) => Ok(rest),
        _ => Err(FormatError::malformed(format!("CBOR initial byte {initial:#04x} is not allowed here"))),
    }
}

fn check_items(mut rest: &[u8], count: u64, depth: usize) -> Result<&[u8], FormatError> {
    let depth = depth.checked_sub(1).ok_or_else(|| FormatError::malformed("CBOR nests too deep"))?;
    if count > rest.len() as u64 {
        return Err(FormatError::malformed("CBOR array or map is longer than the input"));
    }
    for _ in 0..count {
        rest = check_item(rest, depth)?;
    }
    Ok(rest)
}

fn argument(minor: u8, rest: &[u8]) -> Result<(u64, &[u8]), FormatError> {
    let bytes = match minor {
        0..=23 => return Ok((u64::from(minor), rest)),
        24..=27 => 1usize << (minor - 24),
        _ => return Err(FormatError::malformed("CBOR with an indefinite length")),
    };
    let (number, rest) = rest.split_at_checked(bytes).ok_or_else(|| FormatError::malformed("CBOR ends too early"))?;
    Ok((number.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        number: i64,
        text: String,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        list: Vec<u32>,
    }

    fn sample() -> Sample {
        Sample { number: -5, text: "page".into(), bytes: vec![1, 2, 3], list: vec![1, 1000, 100_000] }
    }

    #[test]
    fn what_is_written_is_plain_cbor_for_another_implementation() {
        let bytes = encode(&sample());
        let read: Sample = ciborium::from_reader(&bytes[..]).expect("BUG: ciborium reads it");
        assert_eq!(read, sample());
        let mut written = Vec::new();
        ciborium::into_writer(&sample(), &mut written).expect("BUG: ciborium writes it");
        assert_eq!(written, bytes);
    }

    #[test]
    fn refuses_what_the_specification_refuses() {
        let refused = |bytes: &[u8]| decode::<serde_cbor::Value>(bytes).is_err();
        assert!(!refused(&[0x82, 0x01, 0xf6]));
        for (what, bytes) in [
            ("nothing", &[][..]),
            ("trailing bytes", &[0x01, 0x01]),
            ("indefinite array", &[0x9f, 0x01, 0xff]),
            ("tag", &[0xc0, 0x01]),
            ("half float", &[0xf9, 0, 0]),
            ("huge string", &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("huge array", &[0x9a, 0xff, 0xff, 0xff, 0xff]),
            ("deep nesting", &[0x81; 40]),
        ] {
            assert!(refused(bytes), "{what}");
        }
        let mut unknown = encode(&sample());
        unknown[0] = 0xa5;
        unknown.extend([0x61, b'x', 0x01]);
        assert!(decode::<Sample>(&unknown).is_err());
    }

    proptest! {
        #[test]
        fn decoding_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Sample>(&bytes);
            let _ = decode::<serde_cbor::Value>(&bytes);
        }
    }
}
