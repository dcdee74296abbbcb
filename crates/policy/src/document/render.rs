//! Diagnostics as people read them: the line, an arrow, what is wrong and what was probably meant.

use crate::Diagnostic;
use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};

/// All diagnostics about one text, in the style of rustc, without colours.
pub fn render(text: &str, diagnostics: &[Diagnostic]) -> String {
    render_with(&Renderer::plain(), text, diagnostics)
}

/// The same with colours, for terminals.
pub fn render_styled(text: &str, diagnostics: &[Diagnostic]) -> String {
    render_with(&Renderer::styled(), text, diagnostics)
}

fn render_with(renderer: &Renderer, text: &str, diagnostics: &[Diagnostic]) -> String {
    let shown: Vec<String> = diagnostics.iter().map(|diagnostic| renderer.render(&report(text, diagnostic))).collect();
    shown.join("\n\n")
}

fn report<'a>(text: &'a str, diagnostic: &'a Diagnostic) -> Vec<Group<'a>> {
    let Diagnostic { code, message, field, help, suggestion, place } = diagnostic;
    let title = Level::ERROR.primary_title(message.as_str()).id(code.as_str());
    let Some(place) = place else {
        // Checked without its text: the path is all there is to point with.
        let mut group = Group::with_title(title);
        if !field.is_empty() {
            group = group.element(Level::NOTE.message(format!("in {field}")));
        }
        let help = suggestion.as_ref().map(|word| format!("did you mean `{word}`?")).or_else(|| Some(help.clone()));
        if let Some(help) = help.filter(|help| !help.is_empty()) {
            group = group.element(Level::HELP.message(help));
        }
        return vec![group];
    };
    let start = place.offset.min(text.len());
    let span = start..(start + place.length).min(text.len());
    let label = Some(help.as_str()).filter(|help| !help.is_empty());
    let marked = AnnotationKind::Primary.span(span.clone()).label(label);
    let snippet = Snippet::source(text).path(place.file.as_str()).annotation(marked);
    let mut groups = vec![title.element(snippet)];
    if let Some(word) = suggestion {
        let patch = Snippet::source(text).path(place.file.as_str()).patch(Patch::new(span, word.as_str()));
        groups.push(Level::HELP.secondary_title("did you mean this?").element(patch));
    }
    groups
}
