//! Forms as JSON Schema, made from the types that are read and written: for editors,
//! for `docs/schemas/`, and for the documents about the interfaces.
//!
//! A schema says what a text must look like, and no more: that a name is there twice, or that
//! dependencies go round in a circle, is for [`crate::config`] to find.

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Map, Value, json};

use crate::{config::Config, event::Plain, runbook::Runbook, view::LogLine};

/// A file of `docs/schemas/`, and what makes it.
pub type File = (&'static str, fn() -> Value);

/// The files of `docs/schemas/` that are made here.
pub const FILES: [File; 4] = [
    ("selfheal.schema.json", config),
    ("runbook.schema.json", runbook),
    ("event.schema.json", event),
    ("log-line.schema.json", log_line),
];

/// Returns the form of `selfheal.yaml`.
#[must_use]
pub fn config() -> Value {
    whole::<Config>(settings().for_deserialize(), "selfheal.yaml")
}

/// Returns the form of a runbook in a file of its own.
#[must_use]
pub fn runbook() -> Value {
    whole::<Runbook>(settings().for_deserialize(), "A runbook")
}

/// Returns the plain form of an event: the body of `POST /publish_event`.
#[must_use]
pub fn event() -> Value {
    whole::<Plain>(settings().for_deserialize(), "An event, in the plain form")
}

/// Returns the form of a line of the log, as this version writes it.
#[must_use]
pub fn log_line() -> Value {
    whole::<LogLine>(settings().for_serialize(), "A line of incident_logs.jsonl")
}

fn whole<T: JsonSchema>(settings: SchemaSettings, title: &str) -> Value {
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

/// Returns the form of a type as it is read, whole and without references.
#[must_use]
pub fn inline<T: JsonSchema>() -> Value {
    let whole = |it: &mut SchemaSettings| {
        it.inline_subschemas = true;
        it.meta_schema = None;
    };
    let generator = settings().for_deserialize().with(whole).into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    schema.remove("title");
    schema.to_value()
}

/// Forms that refer to each other, for a document that has a place for all of them.
#[derive(Debug)]
pub struct Forms(SchemaGenerator);

impl Forms {
    /// Where the documents of OpenAPI and AsyncAPI keep forms.
    const PLACE: &str = "/components/schemas";

    /// Collects forms as this version writes them, for OpenAPI 3.1: a field with a default is
    /// always there.
    #[must_use]
    pub fn written() -> Self {
        Self::new(readable(SchemaSettings::draft2020_12()).for_serialize())
    }

    /// Collects forms as this version reads them, for AsyncAPI 3.0: a field with a default may
    /// be absent.
    #[must_use]
    pub fn read() -> Self {
        Self::new(settings().for_deserialize())
    }

    fn new(settings: SchemaSettings) -> Self {
        let place = |it: &mut SchemaSettings| {
            it.definitions_path = Self::PLACE.into();
            it.meta_schema = None;
        };
        Self(settings.with(place).into_generator())
    }

    /// Returns a schema that refers to the form of `T`, and remembers that form.
    pub fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }

    /// Returns all that was referred to, by name.
    #[must_use]
    pub fn all(mut self) -> Map<String, Value> {
        self.0.take_definitions(true)
    }
}

/// Draft 7 is what editors and AsyncAPI know.
fn settings() -> SchemaSettings {
    readable(SchemaSettings::draft07())
}

fn readable(settings: SchemaSettings) -> SchemaSettings {
    settings.with_transform(RecursiveTransform(plain))
}

/// Takes out what only readers of the sources understand: links of rustdoc, widths of numbers.
fn plain(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
    }
    let is_width = |it: &str| it.starts_with("uint") || it.starts_with("int");
    let format = schema.get("format").and_then(Value::as_str);
    if format.is_some_and(|it| is_width(it) || it == "float" || it == "double") {
        schema.remove("format");
    }
}

/// A check names exactly one probe; `false` names none.
pub(crate) fn one_probe(schema: &mut Schema) {
    let named = ["http", "tcp", "command", "disk", "prometheus"].map(given);
    let switched = ["process", "docker", "memory", "cpu"].map(is_true);
    exactly_one(schema, named.into_iter().chain(switched));
}

/// A secret lies in exactly one place.
pub(crate) fn one_place(schema: &mut Schema) {
    exactly_one(
        schema,
        ["env", "file"].map(|it| holds(it, &json!({"type": "string", "minLength": 1}))),
    );
}

/// A target has at most one handle, and something to look at; an empty selector matches nothing.
pub(crate) fn handle_or_check(schema: &mut Schema) {
    if let Some(Value::Object(selector)) = schema.pointer_mut("/properties/select/items") {
        selector.insert("minProperties".to_owned(), 1.into());
    }
    let (process, docker) = (given("process"), given("docker"));
    let checks = holds("checks", &json!({"type": "array", "minItems": 1}));
    schema.insert("anyOf".to_owned(), json!([process, docker, checks]));
    schema.insert("not".to_owned(), json!({"allOf": [process, docker]}));
}

/// A condition that names neither a cause nor an event type matches nothing.
pub(crate) fn cause_or_event(schema: &mut Schema) {
    let some = |field| holds(field, &json!({"type": "array", "minItems": 1}));
    schema.insert("anyOf".to_owned(), json!([some("causes"), some("events")]));
}

/// What some actions cannot do without.
pub(crate) fn arguments(schema: &mut Schema) {
    let some = json!({"type": "array", "minItems": 1});
    let paths = json!({
        "type": "array", "minItems": 1,
        "items": {"pattern": "^/", "not": {"pattern": r"\.\."}},
    });
    let patterns = json!({"type": "array", "minItems": 1, "items": {"pattern": "^[^/]+$"}});
    let url = json!({"type": "string", "pattern": "^https?://"});
    let needs = |action: &str, fields: &[(&str, &Value)]| {
        let fields: Vec<_> = fields.iter().map(|(field, form)| holds(field, form)).collect();
        let is_it = json!({"required": ["action"], "properties": {"action": {"const": action}}});
        json!({"if": is_it, "then": {"allOf": fields}})
    };
    let age = json!({"type": "string"});
    let all = json!([
        needs("command.run", &[("command", &some)]),
        needs("http.request", &[("url", &url)]),
        needs(
            "disk.clean",
            &[("directories", &paths), ("patterns", &patterns), ("older_than", &age)]
        ),
    ]);
    schema.insert("allOf".to_owned(), all);
}

fn exactly_one(schema: &mut Schema, ways: impl IntoIterator<Item = Value>) {
    let ways: Vec<_> = ways.into_iter().collect();
    schema.insert("oneOf".to_owned(), Value::Array(ways));
}

/// The field is there, and not null, which stands for absent.
fn given(field: &str) -> Value {
    holds(field, &json!({"not": {"type": "null"}}))
}

fn is_true(field: &str) -> Value {
    holds(field, &json!({"const": true}))
}

/// The field is there and has this form.
fn holds(field: &str, form: &Value) -> Value {
    let mut properties = Map::new();
    properties.insert(field.to_owned(), form.clone());
    json!({"required": [field], "properties": properties})
}
