//! Where connections lie: places that this build of lakehead cannot open are told before anything runs.

use lakehead_core::Result;
use lakehead_syntax::ast::{self, Item};
use lakehead_syntax::{Diagnostic, FileId};

use crate::definitions::Definitions;

/// The setting of a connection that says where it lies.
const PATH: &str = "path";

/// Tells each connection whose path `check_store` refuses; what leans on it is not planned.
pub(crate) fn check(
    files: &[(FileId, &ast::File)],
    definitions: &mut Definitions<'_>,
    check_store: fn(&str) -> Result<()>,
    found: &mut Vec<Diagnostic>,
) {
    let items = files.iter().flat_map(|(file, tree)| tree.items.iter().map(move |item| (*file, item)));
    for (file, item) in items {
        let Item::Connection(written) = item else { continue };
        let path = definitions.connections.get(&written.name.text).and_then(|read| read.settings.text(PATH));
        let (Some(path), Some(setting)) = (path, written.settings.as_ref().and_then(|settings| settings.get(PATH)))
        else {
            continue;
        };
        if let Err(refusal) = check_store(path) {
            let label = format!("`{}` lies in no store of this build", written.name.text);
            let diagnostic = Diagnostic::error(refusal.code(), refusal.message().to_owned());
            let diagnostic = diagnostic.primary(file, setting.value.span, label);
            let before = found.len();
            found.push(refusal.helps().iter().fold(diagnostic, Diagnostic::help));
            definitions.note_mistakes(item, &found[before..]);
        }
    }
}
