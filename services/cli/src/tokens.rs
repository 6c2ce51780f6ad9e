//! `token`: makes, lists and ends the tokens of the gateway's callers.

use bus::{PutToken, Tokens};
use chrono::{DateTime, TimeDelta, Utc};
use domain::access::{
    Revoked, Scope, TOKEN_BYTES, TokenRecord, TokenState, token_hash, token_text,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use crate::{
    args::{By, CreateToken, Global, Token},
    connection::{System, of_bus},
    exit::{Exit, Failure},
    terminal::{Terminal, Tone, ago, plain, table, toned},
    up,
};

/// Connects, with the key that records are signed with: the one that was named, or that of the
/// data directory when the supervisor of this system signs with it.
///
/// # Errors
///
/// As [`System::connect`], or when the key cannot be read.
pub(crate) async fn connect(
    global: &Global,
    terminal: Terminal,
    command: &Token,
) -> Result<System, Failure> {
    let system = System::connect(global, terminal).await?;
    if !command.writes() || global.broker.signing_key.is_some() {
        return Ok(system);
    }
    let signer = system.bus.config_store().signer(system.timeout).await;
    let Some(signer) = signer else { return Ok(system) };
    let Some(own) = up::keys::of(&global.data_dir.join("run"))?.filter(|it| it.public == signer)
    else {
        return Ok(system);
    };
    let mut global = global.clone();
    global.broker.signing_key = Some(own.seed.display().to_string());
    System::connect(&global, terminal).await
}

/// Runs one of the commands.
pub(crate) async fn run(system: &System, command: Token) -> Result<(), Failure> {
    match command {
        Token::Create(args) => create(system, &args).await,
        Token::Ls => list(system).await,
        Token::Revoke { name, by } => revoke(system, &name, &by).await,
        // It asks a gateway, and needs no broker: it was carried out before there was one.
        Token::Check(_) => Ok(()),
    }
}

async fn create(system: &System, args: &CreateToken) -> Result<(), Failure> {
    let now = Utc::now();
    let tokens = known(system).await?;
    let before = tokens.get(&args.name);
    if before.is_some_and(|(_, record)| record.state(now) == TokenState::Valid) {
        return Err(taken(&args.name));
    }
    let end = |after| TimeDelta::from_std(after).ok().and_then(|it| now.checked_add_signed(it));
    let expires = Some(args.expires).filter(|_| !args.no_expiry);
    let expires_at = expires.map(|after| {
        end(after).ok_or_else(|| Failure::new(Exit::Usage, "--expires is longer than any time"))
    });
    // A record that is older than the one before it would not count.
    let last = before.map(|(_, it)| it.revoked.as_ref().map_or(it.created_at, |it| it.at));
    let created_at = last.map_or(now, |last| now.max(last + TimeDelta::milliseconds(1)));
    let text = token_text(&random()?);
    let record = TokenRecord {
        name: args.name.clone(),
        role: args.role,
        hash: token_hash(&text),
        created_at,
        created_by: args.by.by.clone(),
        expires_at: expires_at.transpose()?,
        rate: args.rate.clone(),
        scope: Scope::of_parts(&args.scope),
        revoked: None,
    };
    put(system, &record, before.map_or(0, |(seq, _)| *seq)).await?;
    let terminal = system.terminal;
    if terminal.is_json() {
        let answer = json!({
            "name": record.name, "role": record.role, "expires_at": record.expires_at, "token": text,
        });
        return terminal.print_json(&answer, true);
    }
    let until = record.expires_at.map_or_else(
        || "it has no end".to_owned(),
        |at| format!("it ends at {}", at.format("%Y-%m-%d %H:%M UTC")),
    );
    terminal.remark(&format!(
        "{} token `{}` of the role {}; {until}. It is shown this once:",
        toned(Tone::Good, "made:"),
        plain(&record.name),
        record.role
    ));
    terminal.print(&text)
}

fn random() -> Result<[u8; TOKEN_BYTES], Failure> {
    let mut bytes = [0; TOKEN_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_unspecified| {
        Failure::new(Exit::Failed, "this machine gives no random numbers")
    })?;
    Ok(bytes)
}

async fn list(system: &System) -> Result<(), Failure> {
    let (tokens, now) = (known(system).await?, Utc::now());
    let records = tokens.values().map(|(_, record)| record);
    if system.terminal.is_json() {
        let told = |it: &TokenRecord| {
            json!({
                "name": it.name, "role": it.role, "state": it.state(now).as_str(),
                "created_at": it.created_at, "created_by": it.created_by,
                "expires_at": it.expires_at, "rate": it.rate, "scope": it.scope, "revoked": it.revoked,
            })
        };
        return system.terminal.print_json(&records.map(told).collect::<Vec<_>>(), true);
    }
    if tokens.is_empty() {
        return system.terminal.print("there are no tokens; `selfheal token create` makes one");
    }
    let rows = records.map(|it| row(it, now)).collect();
    let heading = ["NAME", "ROLE", "STATE", "ENDS", "RATE", "SCOPE", "MADE", "BY"];
    system.terminal.print(&table(&heading, rows))
}

fn row(record: &TokenRecord, now: DateTime<Utc>) -> Vec<String> {
    let state = record.state(now);
    let tone = match state {
        TokenState::Valid => Tone::Good,
        TokenState::Expired => Tone::Notice,
        TokenState::Revoked => Tone::Faint,
    };
    let never = || "–".to_owned();
    vec![
        plain(&record.name),
        record.role.to_string(),
        toned(tone, state.as_str()),
        record.expires_at.map_or_else(never, |at| ago(at, now)),
        record.rate.as_ref().map_or_else(never, ToString::to_string),
        record.scope.as_ref().map_or_else(never, |it| plain(&it.to_string())),
        ago(record.created_at, now),
        plain(&record.created_by),
    ]
}

async fn revoke(system: &System, name: &str, by: &By) -> Result<(), Failure> {
    let tokens = known(system).await?;
    let Some((seq, record)) = tokens.get(name) else {
        return Err(Failure::new(Exit::NotFound, format!("there is no token `{name}`"))
            .hint("`selfheal token ls` shows them"));
    };
    if record.revoked.is_none() {
        let revoked = Some(Revoked { at: Utc::now(), by: by.by.clone() });
        put(system, &TokenRecord { revoked, ..record.clone() }, *seq).await?;
    }
    if system.terminal.is_json() {
        return system.terminal.print_json(&json!({"name": name, "state": "revoked"}), true);
    }
    let done = toned(Tone::Good, "done:");
    system.terminal.print(&format!("{done} token `{}` revoked", plain(name)))
}

async fn known(system: &System) -> Result<Tokens, Failure> {
    let tokens = system.bus.token_store().list(system.timeout).await;
    tokens.map_err(|error| {
        of_bus("the broker does not report the tokens", error)
            .hint("a supervisor of this version makes their bucket; see `selfheal status`")
    })
}

async fn put(system: &System, record: &TokenRecord, expected: u64) -> Result<(), Failure> {
    let keys = system.bus.keys();
    if !keys.signs()
        && (keys.are_required() || system.bus.config_store().signer(system.timeout).await.is_some())
    {
        let message =
            "this installation signs: a token counts only with the signature of a supervisor's key";
        return Err(Failure::new(Exit::Refused, message).hint("run it on the host of a supervisor, as its user, with --signing-key FILE, or SELFHEAL_SIGNING_KEY; `selfheal up` has its key in <data-dir>/run/signing.key, which is found when SELFHEAL_DATA_DIR names that directory"));
    }
    let put = system.bus.token_store().put(record, expected).await;
    match put.map_err(|error| of_bus("the broker did not take it", error))? {
        PutToken::Stored => Ok(()),
        PutToken::Changed => Err(taken(&record.name)),
    }
}

fn taken(name: &str) -> Failure {
    Failure::new(Exit::Refused, format!("there is a token `{name}` already"))
        .hint("choose another name, or end that one with `selfheal token revoke`")
}
