//! `lakehead.toml`.

use serde::Deserialize;

/// A project's settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// The project's name; part of every pipeline's identity.
    pub name: String,
    /// The edition of the language.
    pub edition: u32,
    /// Folder for the ledger and caches, relative to the project; can be lost.
    #[serde(default = "default_state")]
    pub state: String,
    /// How strict a check is.
    #[serde(default)]
    pub check: Check,
}

/// The `[check]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Warnings that fail a check.
    #[serde(default)]
    pub deny: Vec<String>,
}

fn default_state() -> String {
    ".lakehead".into()
}

impl Project {
    /// Reads the text of `lakehead.toml`; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let project: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if project.edition != 1 {
            return Err(format!("edition {} is not known; this version reads edition 1", project.edition));
        }
        Ok(project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_edition_is_refused() {
        assert!(Project::parse("name = \"a\"\nedition = 2\n").unwrap_err().contains("edition 2"));
        assert_eq!(Project::parse("name = \"a\"\nedition = 1\n").unwrap().state, ".lakehead");
        assert!(Project::parse("name = \"a\"\nedition = 1\nstat = \"x\"\n").is_err());
    }
}
