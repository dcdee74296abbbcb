//! A value against the schema of its type: all mistakes at once, each with its path.
//!
//! Covers what `schemars` derives from our types, not JSON Schema as a whole. serde alone would stop at the first
//! mistake and not say where it is.

use super::{diagnostic, envelope, last, nearest};
use crate::Code;
use api::name::{Account, MeshName, Name, NameError, Namespace, ZoneName};
use api::problem::Diagnostic;
use api::{Share, Size, Span};
use schemars::Schema;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Collects everything in `value` that does not fit.
pub(super) fn check(schema: &Schema, value: &Value, at: &str, found: &mut Vec<Diagnostic>) {
    let root = schema.as_value();
    let definitions = root.get("$defs").and_then(Value::as_object);
    Walk { definitions, found }.node(root, value, at);
}

struct Walk<'a> {
    definitions: Option<&'a Map<String, Value>>,
    found: &'a mut Vec<Diagnostic>,
}

impl<'a> Walk<'a> {
    fn node(&mut self, schema: &'a Value, value: &Value, at: &str) {
        if let Some(name) = reference(schema) {
            if let Some(wrong) = typed_text(name, value, at) {
                self.found.extend(wrong);
            } else if let Some(schema) = self.definitions.and_then(|definitions| definitions.get(name)) {
                self.node(schema, value, at);
            }
            return;
        }
        if let Some(branches) = branches(schema) {
            self.choice(branches, value, at);
            return;
        }
        if let Some(words) = words(schema) {
            self.word(&words, value, at);
            return;
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|name| is_a(value, name)) {
            self.wrong_type(&types.join(" or "), value, at);
            return;
        }
        match value {
            Value::Object(fields) => self.fields(schema, fields, at),
            Value::Array(entries) => {
                if let Some(of) = schema.get("items") {
                    entries.iter().enumerate().for_each(|(i, entry)| self.node(of, entry, &format!("{at}[{i}]")));
                }
            }
            Value::Number(number) => self.bounds(schema, number.as_f64(), at),
            Value::String(text) if is_address(schema) && text.parse::<IpAddr>().is_err() => {
                let what = format!("`{text}` is not an IP address");
                self.say(Code::WrongType, at, what, "write an address, such as 10.1.0.7 or 2001:db8::7", None);
            }
            _ => {}
        }
    }

    fn fields(&mut self, schema: &'a Value, fields: &Map<String, Value>, at: &str) {
        let empty = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let others = schema.get("additionalProperties");
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            match (schema.pointer("/properties").and_then(|known| known.get(name)), others) {
                (Some(schema), _) => self.node(schema, value, &at),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = known.keys().map(String::as_str).collect();
                    self.unknown_field(name, &names, &at);
                }
                (None, Some(schema @ Value::Object(_))) => self.node(schema, value, &at),
                _ => {}
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.say(Code::Missing, &format!("{at}.{name}"), format!("`{name}` is missing"), "", None);
            }
        }
    }

    /// One of several shapes: words, maps told apart by a tag or by their only field, or something and nothing.
    fn choice(&mut self, branches: &'a [Value], value: &Value, at: &str) {
        let branches: Vec<&Value> = branches.iter().map(|branch| self.resolved(branch)).collect();
        if value.is_null() && branches.iter().any(|branch| types(branch).contains(&"null")) {
            return;
        }
        // Optional: only one shape is left when nothing is taken away.
        let shapes: Vec<&'a Value> =
            branches.into_iter().filter(|branch| types(branch) != ["null"] || words(branch).is_some()).collect();
        if let [only] = shapes[..] {
            return self.node(only, value, at);
        }
        let all_words: Vec<&str> = shapes.iter().filter_map(|shape| words(shape)).flatten().collect();
        let maps: Vec<&'a Value> = shapes.iter().filter(|shape| types(shape).contains(&"object")).copied().collect();
        match value {
            Value::Object(fields) if !maps.is_empty() => self.variant(&maps, fields, &all_words, at),
            Value::String(_) if maps.is_empty() || !all_words.is_empty() => {
                let forms: Vec<String> =
                    maps.iter().filter_map(|map| only_field(map)).map(|f| format!("{{{f}: ..}}")).collect();
                let shown: Vec<&str> = all_words.iter().copied().chain(forms.iter().map(String::as_str)).collect();
                if !all_words.iter().any(|word| value == word) {
                    self.unknown_word(&shown, value, at);
                }
            }
            _ => self.wrong_type(if maps.is_empty() { "string" } else { "object" }, value, at),
        }
    }

    fn variant(&mut self, maps: &[&'a Value], fields: &Map<String, Value>, words: &[&str], at: &str) {
        if let Some(tag) = maps.iter().find_map(|map| tag(map)) {
            let tags: Vec<&str> =
                maps.iter().filter_map(|map| map.pointer(&format!("/properties/{tag}/const"))?.as_str()).collect();
            let at_tag = format!("{at}.{tag}");
            match fields.get(tag) {
                None => self.say(Code::Missing, &at_tag, format!("`{tag}` is missing"), &not_one_of(&tags), None),
                Some(given) => match tags.iter().position(|tag| given == tag) {
                    Some(i) => self.fields(maps[i], fields, at),
                    None => self.unknown_word(&tags, given, &at_tag),
                },
            }
            return;
        }
        let names: Vec<&str> = maps.iter().filter_map(|map| only_field(map)).collect();
        match maps.iter().find(|map| only_field(map).is_some_and(|name| fields.contains_key(name))) {
            Some(map) => self.fields(map, fields, at),
            None => match fields.keys().next() {
                Some(name) => self.unknown_field(name, &names, &format!("{at}.{name}")),
                None => {
                    let help = not_one_of(&[words, &names].concat());
                    self.say(Code::Missing, at, "an empty map says nothing".into(), &help, None);
                }
            },
        }
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        let Some(name) = reference(schema) else { return schema };
        // Texts with a parser of their own stay references, so that they are read by it.
        match self.definitions.and_then(|definitions| definitions.get(name)) {
            Some(target) if !TYPED_TEXTS.contains(&name) => target,
            _ => schema,
        }
    }

    fn word(&mut self, words: &[&str], value: &Value, at: &str) {
        if value.is_string() {
            if !words.iter().any(|word| value == word) {
                self.unknown_word(words, value, at);
            }
        } else {
            self.wrong_type("string", value, at);
        }
    }

    fn unknown_word(&mut self, words: &[&str], value: &Value, at: &str) {
        let given = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let field = last(at);
        let suggestion = nearest(&given, words.iter().copied().filter(|word| !word.starts_with('{')));
        self.say(Code::UnknownWord, at, format!("unknown {field} `{given}`"), &not_one_of(words), suggestion);
    }

    fn unknown_field(&mut self, name: &str, known: &[&str], at: &str) {
        let suggestion = nearest(name, known.iter().copied());
        self.say(Code::UnknownField, at, format!("unknown field `{name}`"), &not_one_of(known), suggestion);
    }

    fn wrong_type(&mut self, expected: &str, value: &Value, at: &str) {
        let what = format!("`{}` must be {}, not {}", last(at), spoken(expected), spoken(type_of(value)));
        let quoted =
            (expected == "string" && (value.is_number() || value.is_boolean())).then(|| format!("\"{value}\""));
        let help = if quoted.is_some() { "put it in quotes" } else { "" };
        self.say(Code::WrongType, at, what, help, quoted);
    }

    fn bounds(&mut self, schema: &Value, number: Option<f64>, at: &str) {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum").or_else(|| format_max(schema)));
        let Some(number) = number else { return };
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("between {least} and {most}"),
                (Some(least), None) => format!("at least {least}"),
                _ => format!("at most {}", most.unwrap_or_default()),
            };
            self.say(Code::OutOfRange, at, format!("`{}` is {number}, but must be {range}", last(at)), "", None);
        }
    }

    fn say(&mut self, code: Code, at: &str, message: String, help: &str, suggestion: Option<String>) {
        self.found.push(Diagnostic { suggestion, ..diagnostic(code, at, message, help) });
    }
}

/// Definitions whose texts are read by their own parser, which says best what is wrong.
const TYPED_TEXTS: [&str; 8] = ["Duration", "Share", "Size", "Name", "Namespace", "ZoneName", "MeshName", "Account"];

/// Mistakes in a text that has its own parser; `None`: this definition has none.
fn typed_text(definition: &str, value: &Value, at: &str) -> Option<Option<Diagnostic>> {
    fn name<T: std::str::FromStr<Err = NameError>>(text: &str, at: &str) -> Option<Diagnostic> {
        text.parse::<T>().err().map(|error| envelope::wrong_name(at, &error))
    }
    if !TYPED_TEXTS.contains(&definition) {
        return None;
    }
    let unit = |text: String, suggestion| {
        let (what, help) = text.split_once(": ").unwrap_or((&text, ""));
        Some(Diagnostic { suggestion, ..diagnostic(Code::WrongUnit, at, what.into(), help) })
    };
    let Some(text) = value.as_str() else {
        let number = value.as_f64();
        return Some(match definition {
            "Duration" => unit(value.to_string().parse::<Span>().err()?.to_string(), number.map(with_time_unit)),
            "Share" => unit(value.to_string().parse::<Share>().err()?.to_string(), number.map(as_percentage)),
            "Size" => unit(value.to_string().parse::<Size>().err()?.to_string(), number.map(|n| format!("{n}B"))),
            _ => {
                let what = format!("`{}` must be a text, not {}", last(at), spoken(type_of(value)));
                let suggestion = number.map(|_| format!("\"{value}\""));
                Some(Diagnostic { suggestion, ..diagnostic(Code::WrongType, at, what, "put it in quotes") })
            }
        });
    };
    Some(match definition {
        "Duration" => text.parse::<Span>().err().and_then(|error| unit(error.to_string(), time_unit_meant(text))),
        "Share" => {
            let meant = text.parse::<f64>().ok().map(as_percentage);
            text.parse::<Share>().err().and_then(|error| unit(error.to_string(), meant))
        }
        "Size" => text.parse::<Size>().err().and_then(|error| unit(error.to_string(), size_unit_meant(text))),
        "Namespace" => name::<Namespace>(text, at),
        "ZoneName" => name::<ZoneName>(text, at),
        "MeshName" => name::<MeshName>(text, at),
        "Account" => name::<Account>(text, at),
        _ => name::<Name>(text, at),
    })
}

/// Bare numbers of a hundred and more are mostly milliseconds.
fn with_time_unit(number: f64) -> String {
    if number >= 100.0 { format!("{number}ms") } else { format!("{number}s") }
}

fn as_percentage(number: f64) -> String {
    if number > 0.0 && number <= 1.0 { format!("{}%", number * 100.0) } else { format!("{number}%") }
}

/// `5 sec`, `5seconds`, `5S`.
fn time_unit_meant(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let unit = match unit.trim() {
        "" => return Some(with_time_unit(number)),
        "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" | "ms" => "ms",
        "sec" | "secs" | "second" | "seconds" | "s" => "s",
        "min" | "mins" | "minute" | "minutes" | "m" => "m",
        "hr" | "hrs" | "hour" | "hours" | "h" => "h",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// `5kb`, `5 MB`, `5K`: whoever writes so means the binary unit.
fn size_unit_meant(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let unit = match unit.trim() {
        "" | "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "ki" | "kib" => "KiB",
        "m" | "mb" | "mi" | "mib" => "MiB",
        "g" | "gb" | "gi" | "gib" => "GiB",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

fn is_address(schema: &Value) -> bool {
    schema.get("format").is_some_and(|format| format == "ip")
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

fn branches(schema: &Value) -> Option<&[Value]> {
    schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array().map(Vec::as_slice)
}

/// The words a text may be, when it may not be any.
fn words(schema: &Value) -> Option<Vec<&str>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(Value::String(word)), _) => Some(vec![word]),
        (_, Some(Value::Array(words))) => Some(words.iter().filter_map(Value::as_str).collect()),
        _ => {
            // An enum whose variants are documented one by one.
            let words: Vec<Vec<&str>> = branches(schema)?.iter().map(words).collect::<Option<_>>()?;
            Some(words.concat())
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The field by which variants of an internally tagged enum are told apart.
fn tag(schema: &Value) -> Option<&str> {
    let properties = schema.get("properties")?.as_object()?;
    properties.iter().find(|(_, schema)| schema.get("const").is_some()).map(|(name, _)| name.as_str())
}

/// The field by which variants of an externally tagged enum are told apart.
fn only_field(schema: &Value) -> Option<&str> {
    schema.get("required")?.as_array()?.first()?.as_str()
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => type_of(value) == name,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn spoken(name: &str) -> String {
    let words: Vec<&str> = name.split(" or ").filter(|word| *word != "null" || name == "null").collect();
    let speak = |word: &&str| match *word {
        "null" => "empty",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a text",
        "array" => "a list",
        _ => "a map",
    };
    words.iter().map(speak).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" or ")
}

fn format_max(schema: &Value) -> Option<f64> {
    match schema.get("format")?.as_str()? {
        "uint8" => Some(f64::from(u8::MAX)),
        "uint16" => Some(f64::from(u16::MAX)),
        "uint32" => Some(f64::from(u32::MAX)),
        _ => None,
    }
}

fn not_one_of(words: &[&str]) -> String {
    format!("not one of: {}", words.join(", "))
}
