//! The document as a page to read: written whole, so that it needs no script and nothing from
//! elsewhere.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

/// Returns the page of a document.
pub(super) fn write(document: &Value) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _infallible = whole(&mut page, document);
    page
}

fn whole(page: &mut String, document: &Value) -> fmt::Result {
    let (title, version) = (text(document, "/info/title"), text(document, "/info/version"));
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}: HTTP</title>\
         <link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body><h1>{title}</h1>\
         <p class=\"dim\">HTTP interface, version {version} · <a href=\"/openapi.json\">openapi.json</a></p><p>{}</p>",
        prose(document.pointer("/info/description"))
    )?;
    write!(page, "<nav><ul>")?;
    for (method, path, operation) in operations(document) {
        let id = text(operation, "/operationId");
        let name = heading(&method, path);
        write!(page, "<li><a href=\"#{id}\">{name}</a> {}</li>", prose(operation.get("summary")))?;
    }
    write!(page, "</ul></nav>")?;
    for group in document.pointer("/tags").and_then(Value::as_array).into_iter().flatten() {
        let name = group.get("name").cloned().unwrap_or_default();
        write!(page, "<h2>{}</h2><p>{}</p>", prose(Some(&name)), prose(group.get("description")))?;
        for (method, path, operation) in operations(document) {
            if operation.pointer("/tags/0") == Some(&name) {
                one(page, document, &method, path, operation)?;
            }
        }
    }
    write!(page, "<h2>Forms</h2>")?;
    for (name, schema) in fields(document.pointer("/components/schemas")) {
        let name = escape(name);
        write!(
            page,
            "<h3 id=\"form-{name}\">{name}</h3><p>{}</p>",
            prose(schema.get("description"))
        )?;
        form(page, schema)?;
    }
    write!(page, "</body></html>")
}

fn one(page: &mut String, document: &Value, method: &str, path: &str, it: &Value) -> fmt::Result {
    let id = text(it, "/operationId");
    write!(page, "<h3 id=\"{id}\">{}</h3>", heading(method, path))?;
    write!(page, "<p>{}.", prose(it.get("summary")))?;
    if it.get("security").is_some() {
        write!(page, " <span class=\"dim\">Never asks for a token.</span>")?;
    }
    write!(page, "</p><p>{}</p>", prose(it.get("description")))?;
    let parameters = it.get("parameters").and_then(Value::as_array);
    if let Some(parameters) = parameters {
        write!(page, "<h4>Takes</h4><table>")?;
        for parameter in parameters {
            let (name, place) = (text(parameter, "/name"), text(parameter, "/in"));
            let kind = kind(parameter.get("schema").unwrap_or(&Value::Null));
            let about = prose(parameter.get("description"));
            write!(page, "<tr><td><code>{name}</code><td>{place}<td>{kind}<td>{about}</tr>")?;
        }
        write!(page, "</table>")?;
    }
    for (media, body) in fields(it.pointer("/requestBody/content")) {
        let kind = kind(body.get("schema").unwrap_or(&Value::Null));
        write!(page, "<h4>Body: <code>{}</code></h4><p>{kind}</p>", escape(media))?;
        for (_, example) in fields(body.get("examples")) {
            let value = example.get("value").cloned().unwrap_or_default().to_string();
            let command = format!(
                "curl -s -X {method} http://127.0.0.1:8080{path} -H 'content-type: {media}' \\\n  -d '{value}'"
            );
            write!(page, "<pre>{}</pre>", escape(&command))?;
        }
    }
    write!(page, "<h4>Answers</h4><table>")?;
    for (status, answer) in fields(it.get("responses")) {
        let answer = resolved(document, answer);
        let contents: Vec<_> = fields(answer.get("content"))
            .map(|(media, it)| {
                format!(
                    "<code>{}</code> {}",
                    escape(media),
                    kind(it.get("schema").unwrap_or(&Value::Null))
                )
            })
            .collect();
        let about = prose(answer.get("description"));
        write!(page, "<tr><td>{}<td>{about}<td>{}</tr>", escape(status), contents.join("<br>"))?;
    }
    write!(page, "</table>")
}

/// The fields of a form, or its choices.
fn form(page: &mut String, schema: &Value) -> fmt::Result {
    let required: Vec<_> = list(schema, "required").filter_map(Value::as_str).collect();
    let properties: Vec<_> = fields(schema.get("properties")).collect();
    if !properties.is_empty() {
        write!(page, "<table>")?;
        for (name, property) in properties {
            let must = if required.contains(&name.as_str()) { "always" } else { "" };
            let about = prose(property.get("description"));
            let kind = kind(property);
            write!(
                page,
                "<tr><td><code>{}</code><td>{kind}<td class=\"dim\">{must}<td>{about}</tr>",
                escape(name)
            )?;
        }
        write!(page, "</table>")?;
    }
    let choices: Vec<_> = list(schema, "oneOf").chain(list(schema, "anyOf")).collect();
    // A choice without a type only says which fields must be there.
    let choices: Vec<_> = choices
        .into_iter()
        .filter(|it| it.get("required").is_none() || it.get("type").is_some())
        .collect();
    if !choices.is_empty() {
        write!(page, "<table>")?;
        for choice in choices {
            write!(page, "<tr><td>{}<td>{}", kind(choice), prose(choice.get("description")))?;
            if choice.get("properties").is_some() {
                form(page, choice)?;
            }
            write!(page, "</tr>")?;
        }
        write!(page, "</table>")?;
    }
    Ok(())
}

/// What a schema allows, in a few words, with links.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = escape(name.rsplit('/').next().unwrap_or(name));
        return format!("<a href=\"#form-{name}\">{name}</a>");
    }
    if let Some(only) = schema.get("const") {
        return format!("<code>{}</code>", escape(&only.to_string()));
    }
    let joined = |parts: Vec<String>| parts.join(" or ");
    let words: Vec<_> = list(schema, "enum")
        .map(|it| format!("<code>{}</code>", escape(&it.to_string())))
        .collect();
    if !words.is_empty() {
        return joined(words);
    }
    let items = schema.get("items").map(|it| format!(" of {}", kind(it))).unwrap_or_default();
    let values = schema.get("additionalProperties").filter(|it| it.is_object());
    let values = values.map(|it| format!(" of {}", kind(it))).unwrap_or_default();
    let names = match schema.get("type") {
        Some(Value::String(name)) => vec![escape(name)],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(escape).collect(),
        Some(_) | None => Vec::new(),
    };
    if !names.is_empty() {
        let format = schema.get("format").and_then(Value::as_str);
        let format = format.map(|it| format!(" ({})", escape(it))).unwrap_or_default();
        return format!("{}{items}{values}{format}", joined(names));
    }
    joined(list(schema, "anyOf").chain(list(schema, "oneOf")).map(kind).collect())
}

fn heading(method: &str, path: &str) -> String {
    let class = method.to_ascii_lowercase();
    format!("<span class=\"method {class}\">{method}</span> <code>{}</code>", escape(path))
}

/// Method, path and operation of each route, in the order of the document.
fn operations(document: &Value) -> impl Iterator<Item = (String, &String, &Value)> {
    fields(document.get("paths")).flat_map(|(path, methods)| {
        fields(Some(methods)).map(move |(method, it)| (method.to_ascii_uppercase(), path, it))
    })
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix('#'));
    pointer.and_then(|it| document.pointer(it)).unwrap_or(value)
}

fn fields(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, pointer: &str) -> String {
    escape(value.pointer(pointer).and_then(Value::as_str).unwrap_or_default())
}

/// A text of the document, in which words between backticks are code.
fn prose(value: Option<&Value>) -> String {
    let text = escape(value.and_then(Value::as_str).unwrap_or_default());
    let parts = text.split('`').enumerate();
    parts
        .map(
            |(idx, part)| {
                if idx % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }
            },
        )
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
