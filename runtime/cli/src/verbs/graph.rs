//! `lakehead graph`.

use lakehead_core::Result;
use lakehead_plan::{graph_mermaid, graph_text};
use lakehead_sql::Sql;

use super::{Ended, find_plan};
use crate::args::{Common, Format, Graph};
use crate::project::load;

/// Draws one pipeline, or all.
pub(crate) fn graph(arguments: &Graph, common: &Common) -> Result<Ended> {
    let loaded = load(&arguments.path, common, &Sql::new())?;
    let plans = match &arguments.pipeline {
        Some(name) => match find_plan(&loaded, name, common)? {
            Some(plan) => vec![plan],
            None => return Ok(Ended::Errors),
        },
        None => loaded.planned.plans.clone(),
    };
    if plans.is_empty() {
        let failed = super::check::show(&loaded, common);
        return Ok(if failed { Ended::Errors } else { Ended::NothingMatched });
    }
    if common.format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&plans).unwrap_or_default());
        return Ok(Ended::Done);
    }
    for plan in &plans {
        println!("{}", if arguments.mermaid { graph_mermaid(plan) } else { graph_text(plan) });
    }
    Ok(Ended::Done)
}
