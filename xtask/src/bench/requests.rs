//! What one of our commands asked of an S3 server, as it says itself at its end when it is told to be verbose:
//!
//! ```text
//! s3://bucket/prefix?…: 3 PUT (105.02 KiB), 15 GET (103.28 KiB), 0 LIST, 0 DELETE
//! ```

use crate::failure::Failure;

/// Numbers of requests, and bytes each way as far as the text gives them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requests {
    pub puts: f64,
    pub put_bytes: f64,
    pub gets: f64,
    pub got_bytes: f64,
    pub lists: f64,
    pub deletes: f64,
}

/// The counts in what a command printed, between other lines.
pub fn told_in(output: &str) -> Result<Requests, Failure> {
    let mut lines = output.lines().rev().filter(|line| line.starts_with("s3://"));
    lines.find_map(parse).ok_or_else(|| Failure::new(format!("no counts of requests in `{}`", output.trim())))
}

fn parse(line: &str) -> Option<Requests> {
    let (_, counts) = line.rsplit_once(": ")?;
    let mut counts = counts.split(", ");
    let (puts, put_bytes) = with_bytes(counts.next()?, "PUT")?;
    let (gets, got_bytes) = with_bytes(counts.next()?, "GET")?;
    let (lists, deletes) = (number_of(counts.next()?, "LIST")?, number_of(counts.next()?, "DELETE")?);
    counts.next().is_none().then_some(Requests { puts, put_bytes, gets, got_bytes, lists, deletes })
}

fn with_bytes(count: &str, name: &str) -> Option<(f64, f64)> {
    let (requests, size) = count.strip_suffix(')')?.split_once(" (")?;
    let (value, unit) = size.split_once(' ')?;
    let unit_bytes = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => return None,
    };
    Some((number_of(requests, name)?, value.parse::<f64>().ok()? * unit_bytes))
}

fn number_of(count: &str, name: &str) -> Option<f64> {
    let number = count.strip_suffix(name)?.trim_end();
    number.parse::<u32>().ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_between_other_lines() {
        let output = "{\"seconds\":1}\nrestoring: 8 MiB\n\
            s3://b/p?endpoint=http://127.0.0.1:1&region=x: 3 PUT (105.50 KiB), 15 GET (2.00 MiB), 1 LIST, 0 DELETE\n";
        let expected =
            Requests { puts: 3.0, put_bytes: 108_032.0, gets: 15.0, got_bytes: 2_097_152.0, lists: 1.0, deletes: 0.0 };
        assert_eq!(told_in(output).unwrap(), expected);
    }

    #[test]
    fn other_lines_hold_no_counts() {
        for line in [
            "",
            "folder/repository: 3 PUT (4 B), 3 GET (7 B), 0 LIST, 0 DELETE",
            "s3://b/p: is ready",
            "s3://b/p: 3 PUT (4 B), 3 GET (7 B), 0 LIST",
            "s3://b/p: 3 PUT (4 XB), 3 GET (7 B), 0 LIST, 0 DELETE",
            "s3://b/p: 3 PUT (4 B), x GET (7 B), 0 LIST, 0 DELETE",
        ] {
            assert!(told_in(line).is_err(), "{line}");
        }
    }
}
