//! Names that catalogs hold.

/// Bytes of a name at most, in Glue and Hive's metastore alike (Hive's columns are varchar(128) and wider).
const HIVE_BYTES_MAX: usize = 128;

/// Bytes of a name at most in Unity Catalog.
const UNITY_BYTES_MAX: usize = 255;

/// Names of Glue, Athena and Hive: lower case letters, digits and `_`.
pub(crate) fn safe_hive_name(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    differs(name, safe(name, fits, HIVE_BYTES_MAX))
}

/// Names of their columns: the same, and capitals, which are read as small letters.
pub(crate) fn safe_hive_column(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let made = safe(name, fits, HIVE_BYTES_MAX);
    differs(name, made).map(|name| name.to_ascii_lowercase())
}

/// Names of Unity Catalog: no dot, blank, slash or control character.
pub(crate) fn safe_unity_name(name: &str) -> Option<String> {
    let fits = |c: char| !(c == '.' || c == ' ' || c == '/' || c.is_control());
    differs(name, safe(name, fits, UNITY_BYTES_MAX))
}

/// Any name at all.
pub(crate) fn any_name(_: &str) -> Option<String> {
    None
}

fn safe(name: &str, fits: impl Fn(char) -> bool, bytes_max: usize) -> String {
    let mut made = String::with_capacity(name.len());
    for c in name.chars() {
        let lower = c.to_ascii_lowercase();
        let c = if fits(c) {
            c
        } else if fits(lower) {
            lower
        } else {
            '_'
        };
        if made.len() + c.len_utf8() > bytes_max {
            break;
        }
        made.push(c);
    }
    if made.is_empty() { "_".into() } else { made }
}

fn differs(name: &str, safe: String) -> Option<String> {
    (name != safe).then_some(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_held_has_a_safe_one() {
        let cases =
            [("orders", None), ("order-items", Some("order_items")), ("Orders", Some("orders")), ("", Some("_"))];
        for (name, safe) in cases {
            assert_eq!(safe_hive_name(name).as_deref(), safe, "{name}");
        }
        assert_eq!(safe_hive_name(&"a".repeat(200)), Some("a".repeat(128)));
        assert_eq!(safe_hive_column("OrderId"), None, "read as `orderid`");
        assert_eq!(safe_unity_name("Order-Items"), None);
        assert_eq!(safe_unity_name("a b/c"), Some("a_b_c".into()));
        assert_eq!(safe_hive_column("Größe in m"), Some("gr__e_in_m".into()));
    }
}
