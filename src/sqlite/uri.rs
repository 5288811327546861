//! File names as SQLite's URIs (<https://sqlite.org/uri.html>).

use std::path::Path;

/// The URI of a file, with parameters such as `mode=ro&immutable=1`. Whatever is special in a URI is escaped, byte by byte.
pub fn uri_of(path: &Path, parameters: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    let escaped = |&byte: &u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let name: String = path.as_os_str().as_encoded_bytes().iter().map(escaped).collect();
    // Two slashes at the beginning would be taken for a host's name.
    let name = if name.starts_with("//") { format!("//{name}") } else { name };
    format!("file:{name}?{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(uri_of(Path::new("/a b/c?d#e%.db"), "mode=ro"), "file:/a%20b/c%3Fd%23e%25.db?mode=ro");
        assert_eq!(uri_of(Path::new("a.db"), "mode=rw"), "file:a.db?mode=rw");
        assert_eq!(uri_of(Path::new("//a.db"), "mode=rw"), "file:////a.db?mode=rw");
    }
}
