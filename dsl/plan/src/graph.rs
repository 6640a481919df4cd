//! A plan as a picture: text for a terminal, Mermaid for a README.

use std::fmt::Write;

use crate::model::{NodeKind, Plan, Step, StepPlan, StreamId, Target, When};

/// Returns the edges of a plan: from a name to a name, both with a line of detail.
fn edges(plan: &Plan) -> Vec<(String, String)> {
    let mut producer: Vec<Option<String>> = vec![None; plan.streams.len()];
    let mut edges = Vec::new();
    let mut link = |from: &[Option<String>], stream: StreamId, to: &str| {
        if let Some(Some(from)) = from.get(stream.0) {
            edges.push((from.clone(), to.to_owned()));
        }
    };
    for node in &plan.nodes {
        match &node.kind {
            NodeKind::Source(source) => {
                for table in &source.tables {
                    let many = source.tables.len() > 1 || source.changes;
                    let name = if many { format!("{}.{}", node.name, short(&table.name)) } else { node.name.clone() };
                    producer[table.stream.0] = Some(name);
                }
            }
            NodeKind::Transform { inputs, output, steps } => {
                let name = format!("{} ({})", plan.streams[output.0].name, step_words(steps));
                for input in inputs.iter().chain(&joined(steps)) {
                    link(&producer, *input, &name);
                }
                producer[output.0] = Some(name);
            }
            NodeKind::Route { input, branches, otherwise } => {
                for branch in branches {
                    link(&producer, *input, &branch.name);
                    producer[branch.output.0] = Some(branch.name.clone());
                }
                match otherwise {
                    Target::Stream(stream) => {
                        let name = plan.streams[stream.0].name.clone();
                        link(&producer, *input, &name);
                        producer[stream.0] = Some(name);
                    }
                    Target::DeadLetter => link(&producer, *input, "dead_letter"),
                }
            }
            NodeKind::Sink(sink) => {
                let name = format!("{} {} ({})", sink.connection_name, sink.table, sink.mode.word());
                link(&producer, sink.input, &name);
            }
        }
    }
    edges
}

fn joined(steps: &[Step]) -> Vec<StreamId> {
    steps
        .iter()
        .filter_map(|step| match &step.kind {
            StepPlan::Join { right, .. } => Some(right.stream),
            _ => None,
        })
        .collect()
}

fn short(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or(table)
}

fn step_words(steps: &[Step]) -> String {
    let word = |step: &Step| match &step.kind {
        StepPlan::Where(_) => "where",
        StepPlan::Derive(_) => "derive",
        StepPlan::Select(_) => "select",
        StepPlan::Drop(_) => "drop",
        StepPlan::Aggregate { .. } => "aggregate",
        StepPlan::Join { .. } => "join",
        StepPlan::Dedupe(_) => "dedupe",
        StepPlan::Union => "union",
        StepPlan::Expect { .. } => "expect",
        StepPlan::Query { .. } => "sql",
    };
    steps.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn trigger_words(plan: &Plan) -> String {
    match &plan.trigger.when {
        When::Continuous => "continuous".into(),
        When::Manual => "by hand".into(),
        When::Arrival => "on arrival".into(),
        When::Cron(text) => format!("cron \"{text}\" {}", plan.trigger.timezone),
        When::Every(length) => format!("every {} s", length.as_secs()),
        When::Event(kind) => format!("event {kind}"),
        When::After(names, outcome) => format!("after {} {}", names.join(", "), format!("{outcome:?}").to_lowercase()),
    }
}

/// Draws a plan as indented text: sources at the left, what reads a node below it.
pub fn graph_text(plan: &Plan) -> String {
    let edges = edges(plan);
    let mut text = format!("{}  {}\n", plan.name, trigger_words(plan));
    let mut roots: Vec<&String> = Vec::new();
    for (from, _) in &edges {
        if !edges.iter().any(|(_, to)| to == from) && !roots.contains(&from) {
            roots.push(from);
        }
    }
    for root in roots {
        let _ = writeln!(text, " {root}");
        draw(&edges, root, " ", &mut text);
    }
    if let Some(sink) = &plan.dead_letter {
        let _ = writeln!(text, " rejected rows ──> {} {}", sink.connection_name, sink.table);
    }
    text
}

fn draw(edges: &[(String, String)], from: &str, indent: &str, text: &mut String) {
    let mut children: Vec<&String> = edges.iter().filter(|(a, _)| a == from).map(|(_, b)| b).collect();
    children.dedup();
    for (n, child) in children.iter().enumerate() {
        let last = n + 1 == children.len();
        let _ = writeln!(text, "{indent}{}─> {child}", if last { "└" } else { "├" });
        let deeper = format!("{indent}{}   ", if last { " " } else { "│" });
        draw(edges, child, &deeper, text);
    }
}

/// Writes a plan as a Mermaid flowchart.
pub fn graph_mermaid(plan: &Plan) -> String {
    let edges = edges(plan);
    let mut names: Vec<&String> = Vec::new();
    for (from, to) in &edges {
        for name in [from, to] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let mut text = String::from("flowchart LR\n");
    for (n, name) in names.iter().enumerate() {
        let _ = writeln!(text, "  n{n}[\"{}\"]", name.replace('"', "'"));
    }
    for (from, to) in &edges {
        let number = |name: &String| names.iter().position(|other| *other == name).unwrap_or(0);
        let _ = writeln!(text, "  n{} --> n{}", number(from), number(to));
    }
    text
}
