//! Lifecycles of a pipeline's tables as rules of one S3 bucket.

use lakehead_core::{Error, LIFECYCLE_TAG, Lifecycle, Result, StorageClass, Transition};

use crate::location::Location;

/// Rules that one bucket can have (S3 user guide, "Managing the lifecycle of objects").
pub const RULES_MAX: usize = 1000;
/// Objects of this many bytes or fewer stay: S3 bills at least 128 KB in the colder classes, and every move costs.
pub const OBJECT_BYTES_OVER: u64 = 128 * 1024;
/// Days after which an upload that nobody ended is aborted: longer than any run, short enough to cost little.
pub const ABORT_DAYS: u64 = 7;
/// Characters of a rule's id (S3 API reference, `LifecycleRule.ID`).
const ID_CHARS_MAX: usize = 255;
/// Characters of a tag's value (S3 API reference, `Tag`).
const TAG_CHARS_MAX: usize = 256;
/// Days that fit into a rule: S3 reads a signed number of 32 bits.
const DAYS_MAX: u64 = i32::MAX as u64;
/// What every id of ours begins with.
const OURS: &str = "lakehead:";

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Step {
    /// Moves files that carry the lifecycle's tag: days since they were written, and the class.
    Move {
        /// The value of the tag [`LIFECYCLE_TAG`].
        tag: String,
        /// Days and class, in order of age; never empty.
        steps: Vec<(u64, StorageClass)>,
    },
    /// Aborts uploads that nobody ended, [`ABORT_DAYS`] after they began. S3 takes no tag here; no object is touched.
    Abort,
}

/// One rule of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Rule {
    /// `lakehead:<pipeline>:<table>:<n>`, `n` from 1.
    pub id: String,
    /// The table's folder, with a slash behind it.
    pub prefix: String,
    /// What it does.
    pub step: S3Step,
}

impl S3Rule {
    /// Says what it does: `data files to STANDARD_IA after 30 days, to GLACIER_IR after 90 days`.
    pub fn sentence(&self) -> String {
        match &self.step {
            S3Step::Move { steps, .. } => {
                let step = |(days, class): &(u64, StorageClass)| format!("to {} after {days} days", class_name(*class));
                format!("data files {}", steps.iter().map(step).collect::<Vec<_>>().join(", "))
            }
            S3Step::Abort => format!("uploads that nobody ended are aborted after {ABORT_DAYS} days"),
        }
    }
}

/// Every rule that one pipeline has in one bucket: what takes the place of its rules there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Rules {
    pub(crate) pipeline: String,
    pub(crate) bucket: String,
    pub(crate) rules: Vec<S3Rule>,
    notes: Vec<String>,
}

impl S3Rules {
    /// Returns no rules yet, for a pipeline in a bucket: merged like that, they take the pipeline's old rules away.
    ///
    /// # Errors
    ///
    /// R0555 where a name does not fit into a rule: the pipeline's must have no colon, so that its ids are its own.
    pub fn new(pipeline: &str, bucket: &str) -> Result<Self> {
        check_name("pipeline", pipeline)?;
        check_name("bucket", bucket)?;
        if pipeline.contains(':') {
            return Err(misfit("pipeline", pipeline));
        }
        Ok(Self { pipeline: pipeline.to_owned(), bucket: bucket.to_owned(), rules: Vec::new(), notes: Vec::new() })
    }

    /// Adds the rules of one table. After an error nothing was added.
    ///
    /// # Errors
    ///
    /// R0554 for a step that S3 refuses or that would break the table, R0555 for names that do not fit, R0557 past
    /// [`RULES_MAX`], R0558 for a table in another bucket.
    pub fn add(&mut self, table: &str, location: &Location, lifecycle: &Lifecycle) -> Result<()> {
        if location.bucket != self.bucket {
            return Err(Error::user("R0558", "the rules of one bucket cannot reach a table in another")
                .with("bucket", &self.bucket)
                .with("table", table)
                .with("lies_in", &location.bucket)
                .help("make the rules of each bucket by themselves"));
        }
        check_name("table", table)?;
        for replica in &lifecycle.replicas {
            check_name("connection", &replica.connection)?;
        }
        let mut steps = Vec::new();
        if !lifecycle.transitions.is_empty() {
            steps.push(moves(lifecycle)?);
        }
        steps.push(S3Step::Abort);
        if self.rules.len() + steps.len() > RULES_MAX {
            return Err(too_many(&self.bucket, self.rules.len() + steps.len()));
        }
        let mut rules = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let id = format!("{}{table}:{}", self.own_prefix(), number + 1);
            if id.chars().count() > ID_CHARS_MAX {
                return Err(misfit("table", table));
            }
            if self.rules.iter().any(|rule| rule.id == id) {
                return Err(Error::user("R0554", "a table has two lifecycles").with("table", table));
            }
            rules.push(S3Rule { id, prefix: location.prefix.clone(), step });
        }
        self.rules.append(&mut rules);
        self.notes.extend(notes(table, lifecycle));
        Ok(())
    }

    /// Returns the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the rules in the order of their tables.
    pub fn rules(&self) -> &[S3Rule] {
        &self.rules
    }

    /// Returns what the rules do not do, and who does it: sentences to show beside them.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the id of every rule of this pipeline begins with.
    pub(crate) fn own_prefix(&self) -> String {
        format!("{OURS}{}:", self.pipeline)
    }
}

/// Returns the name S3 has for a class (the table of classes in the language).
pub fn class_name(class: StorageClass) -> &'static str {
    match class {
        StorageClass::Infrequent => "STANDARD_IA",
        StorageClass::ArchiveInstant => "GLACIER_IR",
        StorageClass::Archive => "GLACIER",
    }
}

pub(crate) fn too_many(bucket: &str, count: usize) -> Error {
    Error::user("R0557", "the bucket would have more rules than it can")
        .with("bucket", bucket)
        .with("rules", count)
        .with("rules_max", RULES_MAX)
        .help("put tables of the same lifecycle into a bucket of their own, or take rules away that nothing needs")
}

/// The plan checked all of this; what a caller made by hand is checked here.
fn moves(lifecycle: &Lifecycle) -> Result<S3Step> {
    let mut steps: Vec<(u64, StorageClass)> = Vec::new();
    for transition in &lifecycle.transitions {
        let days = days(lifecycle, transition)?;
        let refused = |reason: &str| refused(lifecycle, transition, reason);
        if transition.class == StorageClass::Archive && !transition.unreadable_allowed {
            let error = refused("queries that touch an archived file fail until it is restored");
            return Err(error.help("transition to archive after … { unreadable = allow }"));
        }
        if steps.last().is_some_and(|(before, class)| days <= *before || transition.class <= *class) {
            return Err(refused("each step must be later and colder than the one before"));
        }
        steps.push((days, transition.class));
    }
    check_tag(&lifecycle.name)?;
    Ok(S3Step::Move { tag: lifecycle.name.clone(), steps })
}

fn days(lifecycle: &Lifecycle, transition: &Transition) -> Result<u64> {
    let days = Lifecycle::days(transition.after).filter(|days| *days <= DAYS_MAX);
    let days = days.ok_or_else(|| refused(lifecycle, transition, "ages are whole days, 1 or more"))?;
    let least = transition.class.age_days_min();
    if days < least {
        let error = refused(lifecycle, transition, "S3 moves nothing into this class so early");
        return Err(error.with("days", days).with("days_min", least));
    }
    Ok(days)
}

fn refused(lifecycle: &Lifecycle, transition: &Transition, reason: &str) -> Error {
    Error::user("R0554", "the store cannot carry out a step of the lifecycle")
        .with("lifecycle", &lifecycle.name)
        .with("class", transition.class.word())
        .with("reason", reason)
}

/// A rule's id is any text to S3; what a person would not see in it is refused.
fn check_name(kind: &'static str, name: &str) -> Result<()> {
    let fits = !name.is_empty() && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(misfit(kind, name)) }
}

/// S3 takes letters, digits, blanks and `+ - = . _ : / @` in tags.
fn check_tag(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
    let fits = !name.is_empty() && name.chars().count() <= TAG_CHARS_MAX && name.chars().all(allowed);
    if fits { Ok(()) } else { Err(misfit("lifecycle", name)) }
}

fn misfit(kind: &'static str, name: &str) -> Error {
    Error::user("R0555", "a name does not fit into a storage rule")
        .with("of", kind)
        .with("name", name)
        .help("rules are called lakehead:<pipeline>:<table>:<n>, 255 characters at most")
}

fn notes(table: &str, lifecycle: &Lifecycle) -> Vec<String> {
    let mut notes = Vec::new();
    if !lifecycle.transitions.is_empty() {
        let tag = format!("{LIFECYCLE_TAG}={}", lifecycle.name);
        notes.push(format!("{table}: only files with the tag {tag} move, so that the log never does"));
    }
    let days = |age| Lifecycle::days(age).map_or_else(|| format!("{age:?}"), |days| format!("{days} days"));
    if let Some(age) = lifecycle.expire_after {
        let owner = "by the table's owner, with a delete and a vacuum";
        notes.push(format!(
            "{table}: rows expire after {} {owner}; no rule of the bucket deletes live files",
            days(age)
        ));
    }
    if let Some(age) = lifecycle.vacuum_after {
        notes.push(format!("{table}: vacuum after {} is the table owner's", days(age)));
    }
    for replica in &lifecycle.replicas {
        notes.push(format!("{table}: the copy in `{}` is not made by these rules", replica.connection));
    }
    notes
}
