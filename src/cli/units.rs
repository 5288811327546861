//! Quantities as people write them.

use std::fmt;
use std::time::Duration;

use crate::ops::check::ReadData;

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

/// Parses what [`bytes`] does, and 0, which is nothing.
pub fn bytes_or_none(text: &str) -> Result<Bytes, String> {
    if text.trim() == "0" { Ok(Bytes(0)) } else { bytes(text) }
}

/// A time span, as a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let unit = SPANS.iter().rev().find(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit));
        match unit {
            Some((name, unit)) => write!(f, "{}{name}", seconds / unit),
            None => write!(f, "{seconds}s"),
        }
    }
}

impl Span {
    /// In microseconds.
    pub fn micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }
}

/// Units of time spans in seconds. A month and a year have no fixed length.
const SPANS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];

/// Parses `90s`, `30m`, `24h`, `7d`, `2w`, also one after the other: `1d12h`. 0 alone is nothing.
pub fn span(text: &str) -> Result<Span, String> {
    let error = || "a time span like 24h, 7d or 1d12h expected".to_owned();
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Span(Duration::ZERO));
    }
    let (mut seconds, mut is_empty) = (0u64, true);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, unit) = SPANS.iter().find(|(name, _)| unit.trim() == *name).ok_or_else(error)?;
        let span = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit)).ok_or_else(error)?;
        seconds = seconds.checked_add(span).filter(|&seconds| seconds <= 1 << 33).ok_or_else(error)?;
        (rest, is_empty) = (tail.trim_start(), false);
    }
    if is_empty { Err(error()) } else { Ok(Span(Duration::from_secs(seconds))) }
}

/// A share of a whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

/// Parses `80%` or `0.8`.
pub fn share(text: &str) -> Result<Share, String> {
    let (number, whole) = text.trim().strip_suffix('%').map_or((text.trim(), 1.0), |number| (number.trim_end(), 100.0));
    let share = number.parse::<f64>().ok().map(|number| number / whole);
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.map(Share).ok_or_else(|| "a share from 0% to 100% expected".to_owned())
}

/// Parses how much to read: `5%`, `1/20` or `10GiB`.
pub fn amount(text: &str) -> Result<ReadData, String> {
    let text = text.trim();
    let part = |(number, whole): (&str, &str)| {
        let (number, whole) = (number.trim().parse::<u32>().ok()?, whole.trim().parse::<u32>().ok()?);
        (number > 0 && number <= whole).then(|| ReadData::Share(f64::from(number) / f64::from(whole)))
    };
    let amount = match text.split_once('/') {
        Some(parts) => part(parts),
        None if text.ends_with('%') => {
            share(text).ok().filter(|share| share.0 > 0.0).map(|share| ReadData::Share(share.0))
        }
        None => quantity_bytes(text).map(ReadData::Bytes),
    };
    amount.ok_or_else(|| "an amount like 5%, 1/20 or 10GiB expected".to_owned())
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
    fn spans_and_shares_are_read_as_people_write_them() {
        let good = [
            ("0", 0),
            ("90s", 90),
            ("30m", 1800),
            ("24h", 86_400),
            ("7d", 604_800),
            ("1d12h", 129_600),
            ("2w", 1_209_600),
        ];
        for (text, seconds) in good {
            assert_eq!(span(text), Ok(Span(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "7", "d", "7days", "-1d", "99999999999999999999d", "9999999w", "1.5d"] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!(
            [0, 90, 3600, 86_400, 604_800].map(|seconds| Span(Duration::from_secs(seconds)).to_string()),
            ["0s", "90s", "1h", "1d", "1w"]
        );
        assert_eq!((share("80%"), share("0.25"), share("100 %")), (Ok(Share(0.8)), Ok(Share(0.25)), Ok(Share(1.0))));
        for text in ["", "%", "101%", "-1", "half", "NaN"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_shares_parts_or_bytes() {
        let good = [
            ("5%", ReadData::Share(0.05)),
            ("1/20", ReadData::Share(0.05)),
            ("3 / 4", ReadData::Share(0.75)),
            ("10GiB", ReadData::Bytes(10 << 30)),
            ("100%", ReadData::Share(1.0)),
        ];
        for (text, expected) in good {
            assert_eq!(amount(text), Ok(expected), "{text}");
        }
        for text in ["", "0%", "0/20", "21/20", "1/0", "/", "much", "101%"] {
            assert!(amount(text).is_err(), "{text}");
        }
    }

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
