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

/// Parses `10MiB/s`, `500k`, `1.5 GB/s`: with the prefixes of IEC 80000-13 (KiB, MiB, GiB) and SI (kB, MB, GB); a letter alone means the former, as in other
/// backup tools. A number alone is bytes a second.
pub fn rate(text: &str) -> Result<Rate, String> {
    let bad = || "a rate like 10MiB/s expected".to_owned();
    let quantity = text.trim().trim_end_matches("/s").trim_end();
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
        _ => return Err(bad()),
    };
    let bytes = number.parse::<f64>().map_err(|_| bad())? * factor;
    if (1.0..=1e15).contains(&bytes) { Ok(Rate(bytes as u64)) } else { Err(bad()) }
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
