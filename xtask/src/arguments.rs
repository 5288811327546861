//! The command line, taken apart piece by piece. What nobody took is an error.

use std::collections::VecDeque;
use std::str::FromStr;

use crate::failure::Failure;

pub struct Arguments {
    left: VecDeque<String>,
}

impl Arguments {
    pub fn new(arguments: impl Iterator<Item = String>) -> Self {
        Self { left: arguments.collect() }
    }

    /// Whether `help` comes first, or `--help` anywhere before what is for another program.
    pub fn asks_for_help(&self) -> bool {
        let mut own = self.left.iter().take_while(|word| *word != "--");
        self.left.front().is_some_and(|word| word == "help") || own.any(|word| word == "--help" || word == "-h")
    }

    /// The next word, whatever it is: a command or a subcommand.
    pub fn take_word(&mut self) -> Option<String> {
        self.left.pop_front()
    }

    /// Whether `--flag` is given.
    pub fn take_flag(&mut self, flag: &str) -> bool {
        let Some(at) = self.left.iter().position(|word| word == flag) else {
            return false;
        };
        self.left.remove(at);
        true
    }

    /// The value of `--name VALUE` or `--name=VALUE`.
    pub fn take_value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.take_text(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::usage(format!("{name} does not take `{text}`"))),
        }
    }

    fn take_text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let joined = format!("{name}=");
        let given = |word: &String| word == name || word.starts_with(&joined);
        let Some(at) = self.left.iter().position(given) else {
            return Ok(None);
        };
        let word = self.left.remove(at).unwrap_or_default();
        if let Some(value) = word.strip_prefix(&joined) {
            return Ok(Some(value.to_owned()));
        }
        match self.left.remove(at) {
            Some(value) => Ok(Some(value)),
            None => Err(Failure::usage(format!("{name} needs a value"))),
        }
    }

    /// Everything behind a `--`, for another program. To be taken before anything that could be in it.
    pub fn take_rest(&mut self) -> Vec<String> {
        let Some(at) = self.left.iter().position(|word| word == "--") else {
            return Vec::new();
        };
        let rest = self.left.split_off(at);
        rest.into_iter().skip(1).collect()
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.left.front() {
            None => Ok(()),
            Some(word) => Err(Failure::usage(format!("`{word}` is not understood here"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_asked_for_before_what_is_for_another_program() {
        let asks = |line: &str| Arguments::new(line.split_whitespace().map(str::to_owned)).asks_for_help();
        assert!(asks("help") && asks("--help") && asks("crash --help") && asks("test -h -- --list"));
        assert!(!asks("") && !asks("crash --command help") && !asks("test -- --help"));
    }

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn takes_words_flags_and_values() {
        let mut given = arguments("peers --runs 3 --peers-only --dir=/tmp/x");
        assert_eq!(given.take_word().as_deref(), Some("peers"));
        assert_eq!(given.take_value::<u32>("--runs").unwrap(), Some(3));
        assert_eq!(given.take_value::<String>("--dir").unwrap().as_deref(), Some("/tmp/x"));
        assert_eq!(given.take_value::<String>("--database").unwrap(), None);
        assert!(given.take_flag("--peers-only"));
        assert!(!given.take_flag("--peers-only"));
        assert!(given.finish().is_ok());
    }

    #[test]
    fn what_stands_behind_two_dashes_is_for_others() {
        let mut given = arguments("--only s3 -- --only x -- y");
        assert_eq!(given.take_rest(), ["--only", "x", "--", "y"]);
        assert_eq!(given.take_value::<String>("--only").unwrap().as_deref(), Some("s3"));
        assert!(given.take_rest().is_empty() && given.finish().is_ok());
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        assert!(arguments("--runs").take_value::<u32>("--runs").is_err());
        assert!(arguments("--runs many").take_value::<u32>("--runs").is_err());
        assert!(arguments("--unknown").finish().is_err());
    }
}
