//! What `plan` refuses of tables that are only compacted: they are laid out as they are, so that a look at them tells it.

use lakehead_core::{ListedPartition, Listing, MovedBy, WriteMode};
use lakehead_plan::{NodeKind, Plan, SinkPlan};
use lakehead_syntax::Diagnostic;

use super::catalog::listing_of;
use super::plan::Look;

/// Looks at the tables that a plan only compacts under a lifecycle. One that cannot be seen is passed over: `plan` says so.
pub(crate) async fn refused(plan: &Plan, look: &Look<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for node in &look.filled.nodes {
        let NodeKind::Sink(sink) = &node.kind else { continue };
        if sink.mode != WriteMode::Compact || sink.lifecycle.is_none() {
            continue;
        }
        let listed = listing_of(look.filled, sink, look.root, look.state, look.clock).await;
        if let Ok(Some(listing)) = listed {
            found.extend(uncopied(plan, sink, look).await);
            found.extend(ageless(plan, sink, &listing));
        }
    }
    found
}

/// Refuses to copy a folder whose files are there without a table that names them, as its run does.
async fn uncopied(plan: &Plan, sink: &SinkPlan, look: &Look<'_>) -> Option<Diagnostic> {
    let copy = sink.copies.first()?;
    if look.exists(sink).await?.ok()? {
        return None;
    }
    let message = "the folder has no manifest: nothing says which of its files are the table";
    let label = format!("is to be copied to `{}`", copy.connection_name);
    let cure =
        "leave `replicate` out of its lifecycle; a folder that others write is copied with the tools of its store";
    Some(Diagnostic::error("R0572", message).primary(plan.file, sink.span, label).help(cure))
}

/// Refuses moves by an age that no partition tells, as the run does.
fn ageless(plan: &Plan, sink: &SinkPlan, listing: &Listing) -> Option<Diagnostic> {
    if listing.partitions.is_empty() && !listing.partition_by.is_empty() {
        // Values are not listed for every format.
        return None;
    }
    let in_s3 = sink.connection.text("path").is_some_and(|path| path.starts_with("s3://"));
    let by = if in_s3 { MovedBy::Bucket } else { MovedBy::Writer };
    let pairs = |one: &ListedPartition| {
        let names = listing.partition_by.iter().cloned();
        names.zip(one.values.iter().cloned()).collect::<Vec<_>>()
    };
    let partitions: Vec<_> = listing.partitions.iter().flat_map(pairs).collect();
    let partitions = partitions.iter().map(|(column, value)| (column.as_str(), value.as_deref()));
    let error = sink.retention().of_table(&sink.schema, partitions, by).err()?;
    let refused =
        Diagnostic::error(error.code(), error.message()).primary(plan.file, sink.span, "under such a lifecycle");
    Some(error.helps().iter().fold(refused, |refused, help| refused.help(help)))
}
