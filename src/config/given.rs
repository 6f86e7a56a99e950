//! What the configuration gives by the name of a file, or as it stands: a machine has no files.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Certificates in PEM, or keys of a zone. A value of more than one line is the text itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Given {
    /// In this file; a relative name is relative to the configuration.
    File(PathBuf),
    /// This.
    Text(String),
}

impl From<String> for Given {
    fn from(value: String) -> Given {
        match Given::is_text(&value) {
            true => Given::Text(value),
            false => Given::File(PathBuf::from(value)),
        }
    }
}

impl From<Given> for String {
    fn from(given: Given) -> String {
        match given {
            Given::File(path) => path.to_string_lossy().into_owned(),
            Given::Text(text) => text,
        }
    }
}

impl Given {
    /// Whether a value is the text, and not the name of a file.
    #[must_use]
    pub fn is_text(value: &str) -> bool {
        value.contains('\n')
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Given::File(path) => Some(path),
            Given::Text(_) => None,
        }
    }

    /// Relative names are those of files in this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Given::File(path) = self {
            *path = folder.join(&*path);
        }
    }

    /// The text. The error names the file, if that is what cannot be read.
    pub fn read(&self) -> Result<Cow<'_, str>, String> {
        let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        match self {
            Given::File(path) => fs::read_to_string(path)
                .map(Cow::Owned)
                .map_err(|error| failed(path, error)),
            Given::Text(text) => Ok(Cow::Borrowed(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_line_is_the_text_itself() {
        let text = Given::from("-----BEGIN\nEND-----\n".to_owned());
        assert_eq!(text.read().as_deref(), Ok("-----BEGIN\nEND-----\n"));
        assert_eq!(text.file(), None);
        let mut file = Given::from("ca.pem".to_owned());
        file.resolve(Path::new("/nowhere"));
        assert_eq!(file.file(), Some(&PathBuf::from("/nowhere/ca.pem")));
        let why = file.read().expect_err("there is no such file");
        assert!(why.starts_with("/nowhere/ca.pem: "), "{why}");
        assert_eq!(String::from(file), "/nowhere/ca.pem");
    }
}
