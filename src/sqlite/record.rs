//! The record format: how SQLite stores the values of a row or of an index entry (SQLite file format §2.1).
//!
//! Only as much is read as the first values need, for these are the key of a WITHOUT ROWID table.

use super::varint;

/// A value. Text in a record is in the database's encoding, text that SQLite hands out in UTF-8; either need not be valid. Floats are equal when their bits are.
#[derive(Clone, Debug)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A float.
    Real(f64),
    /// Text.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// How far a record that was read in part leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// The values.
    Values(Vec<Value>),
    /// This many bytes of the record are needed.
    Needs(u64),
    /// It is no record with so many values.
    Damaged,
}

/// The first `count` values of a record that begins with `bytes`.
pub fn first_values(bytes: &[u8], count: usize) -> Prefix {
    let mut rest = bytes;
    let Some(header_bytes) = varint::take(&mut rest) else { return more_of_varint(bytes) };
    let Ok(header_bytes) = usize::try_from(header_bytes) else { return Prefix::Damaged };
    let start = bytes.len() - rest.len();
    if header_bytes > bytes.len() {
        return Prefix::Needs(header_bytes as u64);
    }
    let Some(mut header) = bytes.get(start..header_bytes) else { return Prefix::Damaged };
    let mut places = Vec::new();
    let mut end = header_bytes as u64;
    for _ in 0..count {
        let Some(serial) = varint::take(&mut header) else { return Prefix::Damaged };
        let Some(length) = stored_bytes(serial) else { return Prefix::Damaged };
        let Some(next) = end.checked_add(length) else { return Prefix::Damaged };
        places.push((serial, end, next));
        end = next;
    }
    if end > bytes.len() as u64 {
        return Prefix::Needs(end);
    }
    let value = |&(serial, from, to): &(i64, u64, u64)| value(serial, &bytes[from as usize..to as usize]);
    Prefix::Values(places.iter().map(value).collect())
}

fn more_of_varint(bytes: &[u8]) -> Prefix {
    if bytes.len() < 9 { Prefix::Needs(bytes.len() as u64 + 1) } else { Prefix::Damaged }
}

/// How long a value of that serial type is; `None` for those that do not exist.
fn stored_bytes(serial: i64) -> Option<u64> {
    match serial {
        0 | 8 | 9 => Some(0),
        1..=4 => Some(serial as u64),
        5 => Some(6),
        6 | 7 => Some(8),
        12.. => Some((serial as u64 - 12) / 2),
        _ => None,
    }
}

fn value(serial: i64, bytes: &[u8]) -> Value {
    match serial {
        0 => Value::Null,
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        7 => Value::Real(f64::from_bits(integer(bytes) as u64)),
        1..=6 => Value::Integer(integer(bytes)),
        _ if serial % 2 == 0 => Value::Blob(bytes.to_vec()),
        _ => Value::Text(bytes.to_vec()),
    }
}

/// A big-endian integer with sign.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    bytes.iter().fold(if negative { -1 } else { 0 }, |value: i64, &byte| value << 8 | i64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_as_far_as_they_are_there() {
        // Header of 6 bytes: int8, text of 2, null, float, 1.
        let record = [6, 1, 17, 0, 7, 9, 0xfe, b'a', b'b', 0x3f, 0xf8, 0, 0, 0, 0, 0, 0];
        let text = || Value::Text(b"ab".to_vec());
        let all = vec![Value::Integer(-2), text(), Value::Null, Value::Real(1.5), Value::Integer(1)];
        assert_eq!(first_values(&record, 5), Prefix::Values(all.clone()));
        assert_eq!(first_values(&record[..9], 2), Prefix::Values(all[..2].to_vec()));
        assert_eq!(first_values(&record[..9], 4), Prefix::Needs(17));
        assert_eq!(first_values(&record[..3], 1), Prefix::Needs(6));
        assert_eq!(first_values(&record, 6), Prefix::Damaged);
        assert_eq!(first_values(&[], 1), Prefix::Needs(1));
        assert_eq!(first_values(&[2, 10], 1), Prefix::Damaged);
        assert_eq!(first_values(&[0xff; 9], 1), Prefix::Damaged);
        assert_eq!(first_values(&[0], 1), Prefix::Damaged);
    }
}
