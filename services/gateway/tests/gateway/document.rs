//! The document about the routes, and the routes.

use bus::testing::Broker;
use domain::wire::AnswerStatus;
use serde_json::Value;

use crate::fixture::{Desk, Gateway, answer, heard};

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &Value)| -> Vec<_> {
        let methods = methods.as_object().unwrap();
        methods
            .iter()
            .map(|(method, it)| (method.to_uppercase(), path.clone(), it.clone()))
            .collect()
    };
    paths.iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_route_of_the_document_is_served_and_every_example_is_taken() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let (status, document) = heard(gateway.get("/openapi.json")).await;
    assert_eq!((status, &document["openapi"]), (200, &Value::from("3.1.1")));
    let (_, list) = heard(gateway.get("/")).await;
    let operations = operations(&document);
    assert_eq!(list["routes"].as_object().unwrap().len(), operations.len());
    let mut n_examples = 0;
    for (method, path, operation) in operations {
        let at = path.replace("{id}", "01a20a77-c520-7f42-be9c-fe0df13debaa");
        let at = at.replace("{name}", "nobody").replace("{token}", "none");
        if method == "GET" {
            // Only the head: one of them is a stream without an end.
            let answer = gateway.get(&at).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(operation["responses"].get(status.to_string()).is_some(), "{path}: {status}");
            assert!(status != 405 && (status != 404 || path.contains('{')), "{path}: {status}");
            continue;
        }
        let Some(bodies) = operation["requestBody"]["content"].as_object() else { continue };
        for (media, body) in bodies {
            for (name, example) in body["examples"].as_object().unwrap() {
                let request =
                    gateway.http.request(method.parse().unwrap(), format!("{}{at}", gateway.url));
                let request = request.header("content-type", media);
                let answer = request.body(example["value"].to_string()).send().await.unwrap();
                let status = answer.status().as_u16();
                let told = answer.text().await.unwrap();
                let is_told = operation["responses"].get(status.to_string()).is_some();
                assert!(
                    [200, 202].contains(&status) && is_told,
                    "{path} {media} {name}: {status} {told}"
                );
                n_examples += 1;
            }
        }
    }
    assert!(20 <= n_examples, "only {n_examples} examples");
}

#[tokio::test]
async fn the_page_comes_whole_from_here_and_runs_no_script() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let page = gateway.get("/docs").send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let text = page.text().await.unwrap();
    let loaded: Vec<_> =
        text.split("href=\"/").skip(1).map(|it| it.split('"').next().unwrap()).collect();
    assert_eq!(loaded, ["docs/style.css", "openapi.json"]);
    for path in loaded {
        assert_eq!(gateway.get(&format!("/{path}")).send().await.unwrap().status(), 200, "{path}");
    }
}
