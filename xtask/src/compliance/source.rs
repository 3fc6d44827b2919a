//! Finds the tests of a program in its sources, with the names that `cargo test` prints.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// The tests in the file `root` and in all modules below it, by their paths.
pub(super) fn tests(root: &Path, read: &dyn Fn(&Path) -> Result<String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let folder = root.parent().unwrap_or(root).to_owned();
    collect(&read(root)?, &folder, "", read, &mut found)?;
    Ok(found)
}

/// Goes through a file whose modules are in `folder`; `prefix` is the file's own path with two colons behind it.
fn collect(
    text: &str,
    folder: &Path,
    prefix: &str,
    read: &dyn Fn(&Path) -> Result<String>,
    found: &mut Vec<String>,
) -> Result<()> {
    let tokens = tokens(text);
    // The modules that are open here, and how deep each one is.
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut depth = 0_usize;
    // A test attribute has been seen, and no item since.
    let mut is_test = false;
    for (at, token) in tokens.iter().enumerate() {
        let next = |by| tokens.get(at + by).copied().unwrap_or_default();
        let path = || open.iter().flat_map(|(name, _)| [*name, "::"]).collect::<String>();
        match *token {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                open.pop_if(|(_, inside)| *inside > depth);
            }
            ";" => is_test = false,
            "#" if (next(1), next(2), next(3)) == ("[", "test", "]") => is_test = true,
            "fn" => {
                if is_test {
                    found.push(format!("{prefix}{}{}", path(), next(1)));
                }
                is_test = false;
            }
            "mod" if next(2) == "{" => open.push((next(1), depth + 1)),
            "mod" if next(2) == ";" => {
                let inside: PathBuf = open.iter().map(|(name, _)| name).collect();
                let folder = folder.join(inside);
                let (text, folder) = module(&folder, next(1), read)?;
                collect(&text, &folder, &format!("{prefix}{}{}::", path(), next(1)), read, found)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The text of a module in a file of its own, and the folder of the modules in it.
fn module(folder: &Path, name: &str, read: &dyn Fn(&Path) -> Result<String>) -> Result<(String, PathBuf)> {
    let inside = folder.join(name);
    let text = read(&folder.join(format!("{name}.rs"))).or_else(|_| read(&inside.join("mod.rs")))?;
    Ok((text, inside))
}

/// Words and single characters. Comments, strings and character literals are left out: their text is not code.
fn tokens(mut text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    while let Some(first) = text.chars().next() {
        let length = if text.starts_with("//") {
            text.find('\n').unwrap_or(text.len())
        } else if text.starts_with("/*") {
            text.find("*/").map_or(text.len(), |end| end + 2)
        } else if let Some(length) = literal(text) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let end = text.find(|char: char| !char.is_alphanumeric() && char != '_');
            let length = end.unwrap_or(text.len());
            tokens.push(&text[..length]);
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(&text[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        text = &text[length..];
    }
    tokens
}

/// Length of the string or character that `text` starts with, if it does.
fn literal(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + length);
    }
    let quote = body.chars().next().filter(|char| matches!(char, '"' | '\''))?;
    if quote == '\'' && !body.starts_with("'\\") {
        let behind = 1 + body[1..].chars().next().map_or(0, char::len_utf8);
        let is_character = body[behind..].starts_with('\'');
        // Else a lifetime: its name is a word like any other.
        return Some(prefix + if is_character { behind + 1 } else { 1 });
    }
    let mut escaped = false;
    let end = body.char_indices().skip(1).find(|(_, char)| {
        let ends = *char == quote && !escaped;
        escaped = *char == '\\' && !escaped;
        ends
    });
    Some(end.map_or(text.len(), |(at, _)| prefix + at + 1))
}

#[cfg(test)]
mod unit {
    use std::collections::BTreeMap;

    use anyhow::Context;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: BTreeMap<_, _> = files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect();
        let read = |path: &Path| files.get(path).map(ToString::to_string).context("no such file");
        tests(Path::new("t/main.rs"), &read).expect("all modules are there")
    }

    #[test]
    fn functions_with_the_attribute_are_tests() {
        let text =
            "#[test] fn a() {} fn b() {} #[test]\n#[ignore = \"slow\"]\n/// Doc.\npub(crate) fn c() -> Result<()> {}";
        assert_eq!(found(&[("t/main.rs", text)]), ["a", "c"]);
    }

    #[test]
    fn modules_are_followed_into_files_and_blocks() {
        let root = "mod one; #[cfg(test)] mod tests { mod deep { #[test] fn x() {} } #[test] fn y() {} } mod two; \
            #[test] fn z() {}";
        let files = [
            ("t/main.rs", root),
            ("t/one.rs", "mod inner; #[test] fn a() {}"),
            ("t/one/inner.rs", "#[test] fn b() {}"),
            ("t/two/mod.rs", "mod inner;"),
            ("t/two/inner.rs", "#[test] fn c() {}"),
        ];
        let names = [
            "one::inner::b",
            "one::a",
            "tests::deep::x",
            "tests::y",
            "two::inner::c",
            "z",
        ];
        assert_eq!(found(&files), names);
    }

    #[test]
    fn tests_in_macros_count() {
        let text = "proptest! { #[test] fn a(x in 0..4) { prop_assert!(x < 4); } #[test] fn b(y: u8) {} }";
        assert_eq!(found(&[("t/main.rs", text)]), ["a", "b"]);
    }

    #[test]
    fn comments_and_strings_do_not() {
        let text = "// #[test] fn a() {}\n/* #[test] fn b() {} */ const C: &str = \"#[test] fn c() { \\\"\"; \
            const D: &str = r#\"#[test] fn d() { \"\"#; const E: (char, u8) = ('{', b'\\''); \
            fn f<'a>(x: &'a str) -> &'a str { x } #[test] fn g() {}";
        assert_eq!(found(&[("t/main.rs", text)]), ["g"]);
    }

    #[test]
    fn a_missing_module_is_an_error() {
        let read = |path: &Path| {
            (path == Path::new("t/main.rs"))
                .then(|| "mod gone;".to_owned())
                .context("gone")
        };
        assert!(tests(Path::new("t/main.rs"), &read).is_err());
    }
}
