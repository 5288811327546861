//! Values as SQL literals that give back the very same value.

use crate::sqlite::record::Value;

/// The literal of a value.
///
/// Text with NULs is put together with `char(0)`, for a literal ends there; text that is not valid UTF-8 is cast from its bytes, which gives it back in a UTF-8 database only.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        // Its digits alone are out of range.
        Value::Integer(i64::MIN) => "(-9223372036854775807 - 1)".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => real_literal(*real),
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => text_literal(text),
            Err(_) => format!("CAST({} AS TEXT)", blob_literal(text)),
        },
        Value::Blob(blob) => blob_literal(blob),
    }
}

fn real_literal(real: f64) -> String {
    if real.is_infinite() {
        return if real > 0.0 { "9e999".to_owned() } else { "-9e999".to_owned() };
    }
    // The shortest digits that give the number back, with a point or an exponent, so that it is a float.
    format!("{real:?}")
}

fn text_literal(text: &str) -> String {
    if !text.contains('\0') {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let parts: Vec<String> = text.split('\0').map(text_literal).collect();
    format!("({})", parts.join(" || char(0) || "))
}

fn blob_literal(blob: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut literal = String::with_capacity(2 * blob.len() + 3);
    literal.push_str("x'");
    for byte in blob {
        literal.push(char::from(DIGITS[usize::from(byte >> 4)]));
        literal.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::rows::owned;
    use super::*;

    fn check(connection: &Connection, value: &Value) {
        let sql = format!("SELECT {}", literal(value));
        let back = connection.query_row(&sql, [], |row| Ok(owned(row.get_ref(0)?))).expect("a literal");
        assert_eq!(back, *value, "{sql}");
    }

    #[test]
    fn literals_give_back_the_value() {
        let connection = Connection::open_in_memory().expect("a database");
        let texts: [&[u8]; 7] = [b"", b"it's", b"a\0b", b"\0", b"'\0'", b"\xff\0", "naïve\n".as_bytes()];
        let integers = [0, 1, -1, i64::MAX, i64::MIN, i64::MIN + 1];
        let reals =
            [0.0, -0.0, 1.0, 0.1, 1e300, -1e-300, 5e-324, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, -f64::INFINITY];
        texts.iter().for_each(|text| check(&connection, &Value::Text(text.to_vec())));
        texts.iter().for_each(|blob| check(&connection, &Value::Blob(blob.to_vec())));
        integers.iter().for_each(|&integer| check(&connection, &Value::Integer(integer)));
        reals.iter().for_each(|&real| check(&connection, &Value::Real(real)));
        check(&connection, &Value::Null);
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let real = f64::from_bits(bits ^ bits >> 31);
            if !real.is_nan() {
                check(&connection, &Value::Real(real));
            }
        }
    }
}
