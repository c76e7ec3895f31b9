//! Finding the files that a path means.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use thalweg_stream::Origin;

use crate::error::Error;

/// Hidden files match only a pattern that begins with a dot: staged output is no input.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
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
        let found = found.map_err(|error| {
            let path = error.path().to_owned();
            Error::io("list", &path)(error.into())
        })?;
        if found.is_file() {
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

    use super::list;

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
