//! YAML, as far as cloud-init's documents use it: a tree of maps, lists and scalars within limits.
//!
//! Aliases are refused: nobody writes them there, and they are what makes small documents large.
//! This file alone names the parser; the rest sees the same [`Value`]s that JSON has.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::DOCUMENT_BYTES_MAX;

const DEPTH_MAX: usize = 16;
const NODES_MAX: usize = 4096;

/// A map or list that is still open.
enum Open {
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
    List(Vec<Value>),
}

/// Reads one document. The error says what is wrong and in which line.
pub fn read(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(format!(
            "it is longer than {} KiB",
            DOCUMENT_BYTES_MAX >> 10
        ));
    }
    let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let (mut open, mut root, mut nodes) = (Vec::new(), None, 0);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let line = span.start.line();
        nodes += 1;
        if nodes > NODES_MAX || open.len() > DEPTH_MAX {
            return Err(format!("it is too large or too deep from line {line} on"));
        }
        let value = match event {
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(Open::Map(map, _)) => Value::Object(map),
                Some(Open::List(list)) => Value::Array(list),
                None => {
                    return Err(format!(
                        "it ends something that was not begun in line {line}"
                    ));
                }
            },
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::Alias(_) => return Err(format!("it has an alias in line {line}; write it out")),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
        };
        match open.last_mut() {
            Some(parent) => put(parent, value).map_err(|why| format!("{why} in line {line}"))?,
            None if root.is_none() => root = Some(value),
            None => return Err(format!("a second document begins in line {line}")),
        }
    }
    Ok(root.unwrap_or(Value::Null))
}

/// A value in its place; a later value of the same key wins, as in cloud-init.
fn put(parent: &mut Open, value: Value) -> Result<(), &'static str> {
    match parent {
        Open::List(list) => list.push(value),
        Open::Map(map, key) => match key.take() {
            Some(key) => {
                map.insert(key, value);
            }
            None => {
                *key = Some(match value {
                    Value::String(text) => text,
                    Value::Null => String::new(),
                    Value::Bool(_) | Value::Number(_) => value.to_string(),
                    Value::Array(_) | Value::Object(_) => return Err("a key is not a text"),
                });
            }
        },
    }
    Ok(())
}

/// Plain scalars may be numbers or words with a meaning; a number only as JSON writes it, so that
/// hardware addresses and identifiers stay what they look like.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "on" | "On" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "off" | "Off" => Value::Bool(false),
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => Value::String(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_lists_and_scalars_become_values() {
        let text = "# a comment\nversion: 2\nethernets:\n  eth0:\n    dhcp4: true\n    addresses: [192.0.2.1/24, '2001:db8::1/64']\n    match: {macaddress: 52:54:00:12:34:56}\n    none: ~\nlist:\n- 007\n- \"yes\"\n- |\n  two\n  lines\n";
        let read = read(text.as_bytes()).expect("YAML");
        assert_eq!(
            read,
            json!({
                "version": 2,
                "ethernets": {"eth0": {
                    "dhcp4": true,
                    "addresses": ["192.0.2.1/24", "2001:db8::1/64"],
                    "match": {"macaddress": "52:54:00:12:34:56"},
                    "none": null,
                }},
                "list": ["007", "yes", "two\nlines\n"],
            })
        );
    }

    #[test]
    fn json_is_yaml() {
        let text = r#"{"a": [1, {"b": "c"}], "d": null}"#;
        assert_eq!(
            read(text.as_bytes()),
            Ok(json!({"a": [1, {"b": "c"}], "d": null}))
        );
    }

    #[test]
    fn nothing_is_null() {
        for text in ["", "---\n", "# only a comment\n"] {
            assert_eq!(read(text.as_bytes()), Ok(Value::Null), "{text:?}");
        }
    }

    #[test]
    fn documents_stay_within_their_bounds() {
        let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        let why = read(laughs.as_bytes()).expect_err("aliases");
        assert!(why.contains("alias in line 2"), "{why}");
        let deep = "[".repeat(40);
        assert!(read(deep.as_bytes()).is_err());
        let deep = (0..40)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect::<String>();
        let why = read(deep.as_bytes()).expect_err("depth");
        assert!(why.contains("too deep"), "{why}");
        let many = "- x\n".repeat(NODES_MAX + 1);
        assert!(
            read(many.as_bytes())
                .expect_err("nodes")
                .contains("too large")
        );
        assert!(read(&vec![b'#'; DOCUMENT_BYTES_MAX + 1]).is_err());
        assert!(read(b"a: \xff").is_err());
        assert!(
            read(b"a: b\n---\nc: d\n")
                .expect_err("two")
                .contains("second document")
        );
        assert!(
            read(b"? [a]\n: b\n")
                .expect_err("a list as key")
                .contains("key")
        );
        assert!(read(b"a: 'b\n").is_err());
        assert!(read(b"a: b\n c: d\n").is_err());
    }
}
