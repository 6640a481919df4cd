//! Trees without places, for comparing what two texts say.

use serde_json::Value as Json;

use super::File;
use crate::lex::{SqlPart, SqlParts};

impl File {
    /// The tree without spans, and with the blanks of SQL brought to one: equal for two texts that say the same.
    pub fn without_spans(&self) -> Json {
        let mut json = serde_json::to_value(self).unwrap_or(Json::Null);
        strip(&mut json);
        json
    }
}

fn strip(json: &mut Json) {
    match json {
        Json::Array(values) => values.iter_mut().for_each(strip),
        Json::Object(fields) => {
            // What has a text and a span is a name, a quantity or SQL; only the last has blanks.
            if let Some(Json::String(text)) = fields.get_mut("text") {
                *text = one_blank(text);
            }
            fields.retain(|name, _| name != "span" && !name.ends_with("_span"));
            fields.values_mut().for_each(strip);
        }
        _ => {}
    }
}

fn one_blank(sql: &str) -> String {
    let mut out = String::new();
    for (part, start, end) in SqlParts::new(sql, 0) {
        match part {
            SqlPart::Blank if out.ends_with([' ', '\n']) => {}
            SqlPart::Blank => out.push(' '),
            SqlPart::Line => {
                out.push_str(sql[start..end].trim_end());
                out.push('\n');
            }
            _ => out.push_str(&sql[start..end]),
        }
    }
    out.trim().to_string()
}
