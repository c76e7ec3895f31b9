//! Finding the files that a path means.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use thalweg_stream::Origin;

use crate::error::Error;

/// Hidden files are told by [`hidden`]: the crate's own rule panics on a name that is not Unicode.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The names of the files that `path` means, relative to `folder` where `path` is, sorted.
///
/// A file that has exactly this name is meant literally, whatever characters are in it.
pub(crate) fn list(folder: &Path, path: &str) -> Result<Vec<String>, Error> {
    let literal = folder.join(path);
    if literal.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if literal.exists() {
        return Err(Error::NotAFile(path.to_owned()));
    }
    let pattern = if Path::new(path).is_absolute() {
        path.to_owned()
    } else {
        let folder = folder.to_str().ok_or_else(|| not_unicode(folder))?;
        let folder = if folder.is_empty() { "." } else { folder };
        format!("{}/{path}", Pattern::escape(folder))
    };
    let matches = glob::glob_with(&pattern, OPTIONS).map_err(|source| Error::Pattern {
        pattern: path.to_owned(),
        source,
    })?;
    let mut names = Vec::new();
    for found in matches {
        let found = match found {
            Ok(found) => found,
            Err(error) if hidden(Path::new(&pattern), error.path()) => continue,
            Err(error) => {
                let path = error.path().to_owned();
                return Err(Error::io("list", &path)(error.into()));
            }
        };
        if found.is_file() && !hidden(Path::new(&pattern), &found) {
            names.push(name(folder, &found)?);
        }
    }
    if names.is_empty() {
        return Err(Error::NoMatch(path.to_owned()));
    }
    if names.len() >= Origin::SPLITS_MAX as usize {
        return Err(Error::Option {
            option: "path",
            value: path.to_owned(),
            must: "a pattern that matches fewer than 1048575 files",
        });
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a file listed under `name` is one that `path` means, be it there or not.
pub(crate) fn means(folder: &Path, path: &str, name: &str) -> Result<bool, Error> {
    if path == name {
        return Ok(true);
    }
    let folder = folder.to_str().ok_or_else(|| not_unicode(folder))?;
    // An absolute path takes the place of the folder.
    let pattern = plain(&Path::new(&Pattern::escape(folder)).join(path));
    let pattern = Pattern::new(&pattern.to_string_lossy()).map_err(|source| Error::Pattern {
        pattern: path.to_owned(),
        source,
    })?;
    let name = plain(&Path::new(folder).join(name));
    Ok(pattern.matches_path_with(&name, OPTIONS))
}

/// A path without parts that lead nowhere.
fn plain(path: &Path) -> PathBuf {
    path.iter().filter(|part| *part != ".").collect()
}

/// Whether a part of a path begins with a dot where the pattern does not say so: staged output is no
/// input.
fn hidden(pattern: &Path, found: &Path) -> bool {
    let pattern: Vec<&OsStr> = pattern.iter().collect();
    let found: Vec<&OsStr> = found.iter().collect();
    let dotted = |part: &OsStr| part.as_encoded_bytes().starts_with(b".");
    // Parts before `**` and behind it stand where the pattern has them.
    let recursive = |part: &&OsStr| *part == "**";
    let before = pattern.iter().position(recursive).unwrap_or(pattern.len());
    let behind = pattern.iter().rev().position(recursive).unwrap_or(0);
    let said = |at: usize| match found.len() - at {
        _ if at < before => pattern.get(at),
        left if left <= behind => pattern.get(pattern.len() - left),
        _ => None,
    };
    (found.iter().enumerate())
        .any(|(at, part)| dotted(part) && !said(at).is_some_and(|said| dotted(said)))
}

fn name(folder: &Path, found: &Path) -> Result<String, Error> {
    let relative = found.strip_prefix(folder).unwrap_or(found);
    relative
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| not_unicode(relative))
}

fn not_unicode(path: &Path) -> Error {
    Error::NotUnicode(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{list, means};

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn names_are_relative_to_the_definition_and_sorted() {
        let folder = folder(&[
            "d/b.json",
            "d/a.json",
            "d/.hidden.json",
            "d/e/c.json",
            "x[1].json",
        ]);
        let at = folder.path();
        assert_eq!(list(at, "d/*.json").unwrap(), ["d/a.json", "d/b.json"]);
        assert_eq!(list(at, "./d/[ab].json").unwrap(), ["d/a.json", "d/b.json"]);
        assert_eq!(list(at, "d/**/*.json").unwrap().len(), 3);
        assert_eq!(list(at, "x[1].json").unwrap(), ["x[1].json"]);
        let (nested, above) = (at.join("d/e"), ["../a.json", "../b.json"]);
        assert_eq!(list(&nested, "../*.json").unwrap(), above);
        let absolute = at.join("d/b.json");
        let absolute = absolute.to_str().unwrap();
        assert_eq!(list(Path::new("elsewhere"), absolute).unwrap(), [absolute]);
    }

    #[test]
    fn hidden_files_are_meant_by_a_dot_only() {
        let folder = folder(&["d/a", "d/.b", "d/.e/c", "d/e/.f/g", "d/e/h"]);
        let at = folder.path();
        assert_eq!(list(at, "d/*").unwrap(), ["d/a"]);
        assert_eq!(list(at, "d/.*").unwrap(), ["d/.b"]);
        assert_eq!(list(at, "d/**/*").unwrap(), ["d/a", "d/e/h"]);
        assert_eq!(list(at, "d/.e/*").unwrap(), ["d/.e/c"]);
        assert_eq!(list(at, "d/.e/**/c").unwrap(), ["d/.e/c"]);
        assert_eq!(list(at, "d/**/.f/g").unwrap(), ["d/e/.f/g"]);
        assert_eq!(list(at, "./d/../d/*").unwrap(), ["d/../d/a"]);
        assert_eq!(list(&at.join("d/.e"), "*").unwrap(), ["c"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_unicode_is_no_match() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = folder(&["d/a"]);
        let odd = std::ffi::OsStr::from_bytes(b"d/\xff");
        fs::write(folder.path().join(odd), "").unwrap();
        assert_eq!(list(folder.path(), "d/*").unwrap(), ["d/a"]);
        assert_eq!(list(folder.path(), "**/*").unwrap(), ["d/a"]);
    }

    #[test]
    fn a_name_is_known_to_be_meant_without_its_file() {
        for (path, name, meant) in [
            ("d/*.csv", "d/a.csv", true),
            ("./d/*.csv", "d/a.csv", true),
            ("/f[[]1]/d/*.csv", "d/a.csv", true),
            ("d/*.csv", "/f[1]/d/a.csv", true),
            ("d/**/*.csv", "d/e/f/a.csv", true),
            ("d/[a].csv", "d/[a].csv", true),
            ("d/../d/*", "d/../d/a.csv", true),
            ("e/*.csv", "d/a.csv", false),
            ("d/*.json", "d/a.csv", false),
            ("d/*", "d/e/a.csv", false),
            ("/g/d/*.csv", "d/a.csv", false),
        ] {
            let found = means(Path::new("/f[1]"), path, name);
            assert_eq!(found.unwrap(), meant, "{path} {name}");
        }
        assert!(means(Path::new(""), "./d/*", "d/a").unwrap());
        assert!(means(Path::new("f"), "d/[", "d/a").is_err());
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_it() {
        let folder = folder(&["d/a.json"]);
        for (path, message) in [
            ("d/*.csv", "file: no file matches \"d/*.csv\""),
            ("nothing.json", "file: no file matches \"nothing.json\""),
            (
                "d",
                "\"d\" is not a regular file; to read all files of a folder write d/*",
            ),
            ("d/[", "\"d/[\" is not a valid pattern"),
        ] {
            let error = list(folder.path(), path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
