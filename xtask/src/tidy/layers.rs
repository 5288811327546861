//! Imports go downward along the layer table only.
//!
//! A path names a layer by `crate::layer`, by a leaf of a `use crate::{…}` tree, or by enough
//! `super::` to reach the crate's root. Test code is held to the table too: a layer is tested at
//! its own level.

use std::collections::BTreeSet;

use super::Violation;
use super::rust_source::{RustSource, find_word};

/// The layers by level, from the ground up. A layer may use every layer of a lower level and
/// itself; the layers of one level are siblings and don't import each other.
const LEVELS: &[&[&str]] = &[
    &["base"],
    &["sqlite", "crypto"],
    &["chunk"],
    &["format"],
    &["monitor", "policy"],
    &["store", "source", "vfs", "kms"],
    &["repo"],
    &["ops"],
    &["serve", "daemon"],
    &["cli"],
];

/// Imports that go downward and are still not wanted: the upper layer, the lower one.
const REFUSED: &[(&str, &str)] = &[
    // The cutter sees bytes and a page size; it works for what is not SQLite too.
    ("chunk", "sqlite"),
];

/// The crate's name, by which `src/main.rs` knows the library.
const LIBRARY: &str = "continuum";

pub fn check(source: &RustSource) -> Vec<Violation> {
    let Some(inside) = source.path.strip_prefix("src/") else {
        return Vec::new();
    };
    match inside {
        "lib.rs" => Vec::new(),
        "main.rs" => check_main(source),
        _ => check_layer(source, layer_name(inside)),
    }
}

/// The docs of src/lib.rs are the map of the code: each layer that exists is on it.
pub fn check_docs(library: &str, files: &[String]) -> Vec<Violation> {
    let docs: Vec<&str> = library.lines().take_while(|line| line.starts_with("//!")).collect();
    let docs = docs.join("\n");
    let mut missing = Vec::new();
    for layer in existing_layers(files) {
        if find_word(&docs, layer).next().is_none() {
            let message = format!("the module docs do not mention the layer `{layer}`");
            missing.push(Violation::new("src/lib.rs", 1, message));
        }
    }
    missing
}

fn existing_layers(files: &[String]) -> BTreeSet<&str> {
    let inside = files.iter().filter_map(|path| path.strip_prefix("src/"));
    let rust = inside.filter(|path| path.ends_with(".rs") && !["lib.rs", "main.rs"].contains(path));
    rust.map(layer_name).collect()
}

/// `store/local.rs` and `store.rs` both belong to the layer `store`.
fn layer_name(inside: &str) -> &str {
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn level(name: &str) -> Option<usize> {
    LEVELS.iter().position(|layers| layers.contains(&name))
}

fn may_use(layer: &str, target: &str) -> bool {
    layer == target || (level(target) < level(layer) && !REFUSED.contains(&(layer, target)))
}

fn check_main(source: &RustSource) -> Vec<Violation> {
    let mut named = names_behind(source, "crate::");
    named.extend(names_behind(source, &format!("{LIBRARY}::")));
    named.retain(|(_, name)| name != "cli");
    let message = |name: &str| format!("src/main.rs may use only `cli`, not `{name}`");
    named.iter().map(|(offset, name)| source.violation(*offset, message(name))).collect()
}

fn check_layer(source: &RustSource, layer: &str) -> Vec<Violation> {
    if level(layer).is_none() {
        let message = format!("`{layer}` is not in the layer table (xtask/src/tidy/layers.rs)");
        return vec![source.violation(0, message)];
    }
    let mut named = names_behind(source, "crate::");
    named.extend(layers_behind_super(source));
    let mut violations = Vec::new();
    for (offset, target) in named {
        if let Some(message) = objection(layer, &target) {
            violations.push(source.violation(offset, message));
        }
    }
    violations
}

fn objection(layer: &str, target: &str) -> Option<String> {
    if target == "*" {
        return Some("`use crate::*` hides what is used: name the path".to_owned());
    }
    if level(target).is_none() {
        return Some(format!("`crate::{target}` is not a layer: name the path through its layer"));
    }
    if may_use(layer, target) {
        return None;
    }
    Some(format!("layer `{layer}` may not use layer `{target}`"))
}

/// The first path segment behind each `prefix` (such as `crate::`), in code and in `use` trees.
fn names_behind(source: &RustSource, prefix: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for offset in source.find_word(prefix) {
        let name = source.identifier_at(offset + prefix.len());
        // A macro of the crate lives at its root, whichever layer it belongs to.
        let is_macro = source.code[offset + prefix.len()..].starts_with(&format!("{name}!"));
        if !name.is_empty() && !source.is_import(offset) && !is_macro {
            named.push((offset, name.to_owned()));
        }
    }
    let mut seen = BTreeSet::new();
    for leaf in &source.use_paths {
        if let Some(rest) = leaf.path.strip_prefix(prefix) {
            let name = rest.split("::").next().unwrap_or(rest);
            if seen.insert((leaf.statement, name)) {
                named.push((leaf.offset, name.to_owned()));
            }
        }
    }
    named
}

/// Layers reached by climbing to the crate's root with `super::`.
fn layers_behind_super(source: &RustSource) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for offset in source.find_word("super::") {
        if source.code[..offset].ends_with("super::") {
            continue;
        }
        let climbs = source.code[offset..].split("::").take_while(|part| *part == "super").count();
        let name = source.identifier_at(offset + climbs * "super::".len());
        let reaches_root = climbs == module_depth(&source.path) + source.inline_depth(offset);
        if reaches_root && level(name).is_some() {
            named.push((offset, name.to_owned()));
        }
    }
    named
}

/// How many modules lie between the crate's root and the module of this file, itself included.
fn module_depth(path: &str) -> usize {
    let parts = path.split('/').count() - 1;
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

#[cfg(test)]
mod tests {
    use super::super::assert_violations;
    use super::*;

    fn check_text(path: &str, text: &str, expected: &[(usize, &str)]) {
        assert_violations(&check(&RustSource::new(path, text)), expected);
    }

    #[test]
    fn the_table_is_the_designs() {
        assert!(may_use("format", "sqlite") && may_use("chunk", "crypto") && may_use("store", "monitor"));
        assert!(!may_use("chunk", "sqlite") && !may_use("policy", "monitor") && !may_use("base", "crypto"));
        assert!(!may_use("store", "kms") && !may_use("serve", "daemon") && !may_use("repo", "ops"));
    }

    #[test]
    fn lower_layers_and_ones_own_are_allowed() {
        check_text("src/format/pack.rs", "use crate::base::id::PackName;\nuse crate::format::header;", &[]);
        check_text("src/ops/mod.rs", "use crate::{base::id, repo::{Repository, index}};", &[]);
        check_text("src/cli.rs", "fn f() { crate::daemon::run() }", &[]);
        check_text("tests/api.rs", "use crate::whatever::X;", &[]);
    }

    #[test]
    fn higher_layers_and_siblings_are_not() {
        let text = "//! docs\nuse crate::repo::Repository;\nfn f() { crate::cli::main() }";
        check_text("src/format/pack.rs", text, &[(2, "`format` may not use layer `repo`"), (3, "`cli`")]);
        check_text("src/store/local.rs", "use crate::source::Reader;", &[(1, "`source`")]);
        check_text("src/serve/mod.rs", "use crate::daemon::Job;", &[(1, "`daemon`")]);
        check_text("src/sqlite/wal.rs", "use crate::crypto::Key;", &[(1, "`crypto`")]);
    }

    #[test]
    fn use_trees_are_read_line_by_line() {
        let text = "use crate::{\n    base::id,\n    ops::{restore, snapshot},\n};";
        check_text("src/repo/mod.rs", text, &[(3, "`ops`")]);
    }

    #[test]
    fn climbing_to_the_root_is_an_import_too() {
        check_text("src/base/id.rs", "use super::super::store::Store;", &[(1, "`store`")]);
        check_text("src/base/mod.rs", "use super::store::Store;", &[(1, "`store`")]);
        // Here `super` is `format`, and `format::policy` is its own module.
        check_text("src/format/pack.rs", "use super::policy::X;", &[]);
        check_text("src/format/mod.rs", "#[cfg(test)]\nmod tests { use super::policy::X; }", &[]);
    }

    #[test]
    fn comments_and_strings_are_no_imports() {
        check_text("src/base/id.rs", "//! See crate::repo::Repository.\nconst X: &str = \"crate::cli::x\";", &[]);
    }

    #[test]
    fn globs_and_names_at_the_root_are_not_layers() {
        check_text("src/repo/mod.rs", "use crate::*;", &[(1, "name the path")]);
        check_text("src/repo/mod.rs", "use crate::Error;", &[(1, "is not a layer")]);
        check_text("src/repo/mod.rs", "fn f() { crate::ensure!(x) }", &[]);
        check_text("src/extra/mod.rs", "", &[(1, "not in the layer table")]);
    }

    #[test]
    fn main_uses_cli_only() {
        check_text("src/main.rs", "fn main() { continuum::cli::main() }", &[]);
        check_text("src/main.rs", "use continuum::repo::Repository;", &[(1, "not `repo`")]);
    }

    #[test]
    fn the_library_docs_name_every_layer() {
        let files = ["src/lib.rs", "src/main.rs", "src/base/id.rs", "src/store.rs"].map(str::to_owned);
        assert_eq!(check_docs("//! `base`, then `store`\nmod base;", &files), []);
        let missing = check_docs("//! `base` and databases\npub mod store;", &files);
        assert_eq!(missing.len(), 1);
        assert!(missing[0].message.contains("`store`"));
    }
}
