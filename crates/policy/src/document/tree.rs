//! YAML text to values that remember where they stand.
//!
//! Built on the events of `serde-saphyr`'s own parser, because its typed reading stops at the first mistake and this
//! must go on. Scalars follow the YAML 1.2 core schema, so `no` and `on` are texts.

use crate::Code;
use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use std::collections::BTreeMap;
use std::ops::Range;

/// Deepest nesting that is read; our deepest kind needs twelve.
const DEPTH_MAX: usize = 64;

/// One document: its value, and for each field path where name and value stand.
pub(super) struct Tree {
    pub(super) value: Value,
    marks: BTreeMap<String, Marks>,
}

struct Marks {
    name: Option<Range<usize>>,
    value: Range<usize>,
    /// Values over several lines are marked by their name.
    is_scalar: bool,
}

/// What to mark of a field.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Mark {
    Name,
    Value,
}

/// A document that cannot be read.
pub(super) struct Mistake {
    pub(super) code: Code,
    pub(super) at: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Tree {
    /// Where to point for a field. A field that is not there points to the nearest one around it.
    pub(super) fn mark(&self, path: &str, what: Mark) -> Range<usize> {
        let mut path = path;
        loop {
            if let Some(Marks { name, value, is_scalar }) = self.marks.get(path) {
                return match (what, name) {
                    (Mark::Value, _) if *is_scalar => value.clone(),
                    (_, Some(name)) => name.clone(),
                    _ => value.clone(),
                };
            }
            let Some(cut) = path.rfind(['.', '[']) else { break };
            path = &path[..cut];
        }
        let first = |marks: &Marks| marks.name.clone();
        self.marks.values().filter_map(first).min_by_key(|name| name.start).unwrap_or(0..0)
    }
}

/// All documents of a text. After a mistake reading goes on with the next document.
pub(super) fn parse(text: &str) -> Vec<Result<Tree, Mistake>> {
    let mut documents = Vec::new();
    let mut reader = Reader { text, parser: Parser::new_from_str(text) };
    loop {
        match reader.document() {
            Ok(Some(tree)) => documents.push(Ok(tree)),
            Ok(None) => return documents,
            Err(mistake) => {
                documents.push(Err(mistake));
                if !matches!(reader.parser.proceed_next_document(), Ok(true)) {
                    return documents;
                }
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Mistake> {
        self.parser.next_event().transpose().map_err(|error| syntax(&error, self.text))
    }

    fn document(&mut self) -> Result<Option<Tree>, Mistake> {
        loop {
            match self.next()? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentStart(..), _)) => break,
                Some(_) => {}
            }
        }
        let mut marks = BTreeMap::new();
        let mut value = Value::Null;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentEnd | Event::StreamEnd => break,
                event if is_node(&event) => value = self.node(event, span, "", None, 0, &mut marks)?,
                _ => {}
            }
        }
        Ok(Some(Tree { value, marks }))
    }

    /// The next event that is part of a value.
    fn part(&mut self) -> Result<(Event<'a>, Span), Mistake> {
        while let Some((event, span)) = self.next()? {
            if is_node(&event) || matches!(event, Event::MappingEnd | Event::SequenceEnd) {
                return Ok((event, span));
            }
        }
        let end = self.text.len();
        Err(Mistake {
            code: Code::Syntax,
            at: end..end,
            message: "the text ends within a value".into(),
            help: String::new(),
        })
    }

    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        path: &str,
        name: Option<Range<usize>>,
        depth: usize,
        marks: &mut BTreeMap<String, Marks>,
    ) -> Result<Value, Mistake> {
        let at = range(&span, self.text);
        if depth > DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(Mistake { code: Code::TooLarge, at, message, help: String::new() });
        }
        let (value, is_scalar) = match event {
            Event::Scalar(text, style, ..) => (scalar(&text, style), true),
            Event::SequenceStart(..) => {
                let mut entries = Vec::new();
                loop {
                    let (event, span) = self.part()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    let path = format!("{path}[{}]", entries.len());
                    entries.push(self.node(event, span, &path, None, depth + 1, marks)?);
                }
                (Value::Array(entries), false)
            }
            Event::MappingStart(..) => (Value::Object(self.mapping(path, depth, marks)?), false),
            _ => {
                let help = "write the value out".to_owned();
                return Err(Mistake {
                    code: Code::Syntax,
                    at,
                    message: "anchors and aliases are not read".into(),
                    help,
                });
            }
        };
        // A container without a name, such as an entry of a list, is marked at its first line.
        let at = if is_scalar { at } else { first_line(at, self.text) };
        marks.insert(path.to_owned(), Marks { name, value: at, is_scalar });
        Ok(value)
    }

    fn mapping(
        &mut self,
        path: &str,
        depth: usize,
        marks: &mut BTreeMap<String, Marks>,
    ) -> Result<Map<String, Value>, Mistake> {
        let mut fields = Map::new();
        loop {
            let (event, span) = self.part()?;
            let at = range(&span, self.text);
            let name = match event {
                Event::MappingEnd => return Ok(fields),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => {
                    let message = "the name of a field must be a plain text".to_owned();
                    return Err(Mistake { code: Code::Syntax, at, message, help: String::new() });
                }
            };
            if fields.contains_key(&name) {
                let message = format!("`{name}` is given twice");
                let help = "only one of them can hold; remove the other".to_owned();
                return Err(Mistake { code: Code::Contradiction, at, message, help });
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let (event, span) = self.part()?;
            let value = self.node(event, span, &path, Some(at), depth + 1, marks)?;
            fields.insert(name, value);
        }
    }
}

fn is_node(event: &Event<'_>) -> bool {
    use Event::*;
    matches!(event, Scalar(..) | SequenceStart(..) | MappingStart(..) | Alias(..) | UnresolvedAlias(..))
}

/// YAML 1.2.2 section 10.3.2, core schema.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    let numeric =
        text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && text.bytes().any(|b| b.is_ascii_digit());
    match text.parse::<f64>().ok().filter(|_| numeric).and_then(serde_json::Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::String(text.into()),
    }
}

fn syntax(error: &ScanError, text: &str) -> Mistake {
    let start = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let end = text[start..].chars().next().filter(|c| *c != '\n').map_or(start, |c| start + c.len_utf8());
    let tab =
        text[..start].rsplit('\n').next().is_some_and(|line| line.contains('\t')) || text[start..].starts_with('\t');
    let help = if tab { "indent with spaces; YAML does not allow tabs" } else { "" };
    Mistake { code: Code::Syntax, at: start..end, message: error.info(), help: help.into() }
}

fn range(span: &Span, text: &str) -> Range<usize> {
    let range = span.byte_range().unwrap_or(0..0);
    let length = text.get(range.clone()).map_or(0, |marked| marked.trim_end().len());
    range.start..range.start + length
}

fn first_line(at: Range<usize>, text: &str) -> Range<usize> {
    let rest = text.get(at.start..).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default().trim_end();
    at.start..at.start + line.len().max(at.len().min(line.len()))
}
