//! Reads single members out of the documents that `continuum --json` prints: compact JSON, and
//! members whose values need no escapes. Not a parser.

/// The text or number of the first member called `name`; other output may stand around the
/// document.
pub fn member<'a>(output: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = output.split_once(&format!("\"{name}\":"))?;
    match value.strip_prefix('"') {
        Some(text) => text.split_once('"').map(|(text, _)| text),
        None => value.split([',', '}', ']']).next(),
    }
}

/// The first member called `name`, as a number.
pub fn number(output: &str, name: &str) -> Option<f64> {
    member(output, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_texts_and_numbers() {
        let output = "notice: x\n{\"a\":[{\"tier\":\"wal-tail\",\"seconds\":0.25}],\"flushes\":7}\n";
        assert_eq!(member(output, "tier"), Some("wal-tail"));
        assert_eq!(number(output, "seconds"), Some(0.25));
        assert_eq!(number(output, "flushes"), Some(7.0));
        assert_eq!(number(output, "tier"), None);
        assert_eq!(member(output, "none"), None);
    }
}
