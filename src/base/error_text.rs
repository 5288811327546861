//! Errors as text.

use std::error::Error;

/// An error and all its causes, on one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0} failed")]
    struct Step(&'static str, #[source] Option<Box<Step>>);

    #[test]
    fn every_cause_is_named_in_order() {
        let inner = Step("reading", None);
        assert_eq!(with_causes(&inner), "reading failed");
        assert_eq!(with_causes(&Step("opening", Some(Box::new(inner)))), "opening failed: reading failed");
    }
}
