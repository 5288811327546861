//! Quantities as people write them.

use std::fmt;

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", super::output::bytes(self.0))
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::output::bytes(self.0))
    }
}

/// Parses `10MiB/s`, `500k`, `1.5 GB/s`. A number alone is bytes a second.
pub fn rate(text: &str) -> Result<Rate, String> {
    let quantity = text.trim().trim_end_matches("/s").trim_end();
    quantity_bytes(quantity).map(Rate).ok_or_else(|| "a rate like 10MiB/s expected".to_owned())
}

/// Parses `256MiB`, `1.5 GB`. A number alone is bytes.
pub fn bytes(text: &str) -> Result<Bytes, String> {
    quantity_bytes(text.trim()).map(Bytes).ok_or_else(|| "a size like 256MiB expected".to_owned())
}

/// With the prefixes of IEC 80000-13 (KiB, MiB, GiB) and SI (kB, MB, GB); a letter alone means the former, as in other backup tools.
fn quantity_bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    (1.0..=1e15).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let good = [("10MiB/s", 10 << 20), ("10M", 10 << 20), ("1.5 kB/s", 1500), ("4096", 4096), ("1g", 1 << 30)];
        for (text, bytes) in good {
            assert_eq!(rate(text), Ok(Rate(bytes)), "{text}");
        }
        for text in ["", "fast", "0", "-1M", "10 Mbit/s", "1e30"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
