//! Programs of others that judge what we send. `.ci/partners.sh` gets them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Returns a folder of the tools that `.ci/partners.sh` gets.
fn tools(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools").join(name);
    assert!(path.exists(), "{} is missing: run `.ci/partners.sh`", path.display());
    path
}

/// Returns Python with `slack_sdk` and `aiosmtpd`.
pub(crate) fn python() -> PathBuf {
    tools("notices/python/bin/python")
}

async fn judged(mut command: Command, input: &Value) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("see CONTRIBUTING.md for what tests need");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{error} about {input:#}");
}

/// Lets Slack's own library look at blocks.
pub(crate) async fn slack_judges(blocks: &Value) {
    const PROGRAM: &str = "
import json, sys
from slack_sdk.models.blocks import Block
blocks = json.load(sys.stdin)
assert 1 <= len(blocks) <= 50
for raw in blocks:
    block = Block.parse(raw)
    assert block is not None, raw
    block.validate_json()
    assert raw['type'] != 'section' or all(len(it['text']) <= 2000 for it in raw.get('fields', []))
    assert raw['type'] != 'section' or 'text' not in raw or 0 < len(raw['text']['text']) <= 3000
    for element in raw.get('elements', []):
        assert len(element.get('value', '')) <= 2000 and len(element.get('action_id', '')) <= 255
";
    let mut command = Command::new(python());
    command.args(["-c", PROGRAM]);
    judged(command, blocks).await;
}

/// Lets the library of Adaptive Cards parse a card.
pub(crate) async fn cards_judge(card: &Value) {
    const PROGRAM: &str = "
const cards = require(process.argv[1]);
const text = require('fs').readFileSync(0, 'utf8');
const context = new cards.SerializationContext(cards.Versions.v1_5);
const card = new cards.AdaptiveCard();
card.parse(JSON.parse(text), context);
const said = [];
for (let i = 0; i < context.eventCount; i++) said.push(context.getEventAt(i).message);
for (const it of card.validateProperties().validationEvents) said.push(it.message);
if (said.length || card.getItemCount() < 3) { console.log(said.join('\\n')); process.exit(1); }
";
    // The package says that it is a module, and is none.
    let library = tools("notices/node_modules/adaptivecards/dist").join("adaptivecards.js");
    let copy = std::env::temp_dir().join(format!("adaptivecards-{}.cjs", std::process::id()));
    std::fs::copy(library, &copy).unwrap();
    let mut command = Command::new("node");
    command.args(["-e", PROGRAM]).arg(&copy);
    judged(command, card).await;
}
