//! What is measured, one function a row of the table of budgets.

use std::time::Instant;

use cairn::crypto::Credentials;
use tokio_rustls::TlsConnector;

use super::client::{Client, Outcome, connector};
use super::measure::{cpu_us, pss_kib};
use super::scram::{ClientKeys, log_in};
use super::server::{Process, cairn, relay};

mod population;

use population::{PASSWORD, SALT};

const ITERATIONS: u32 = 10_000;
const BODY: &str = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor \
                    incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam, quis \
                    nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat.";

fn credentials() -> Credentials {
    population::credentials(ITERATIONS)
}

fn keys() -> ClientKeys {
    ClientKeys::derive(PASSWORD, SALT, ITERATIONS)
}

/// A message of 428 bytes or so.
fn message(to: &str, number: usize) -> String {
    format!(
        "<message to='{to}' type='chat' id='m{number:08}'><body>{BODY}</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
}

/// CPU of a whole log-in beside a handshake with six round trips.
pub async fn login() -> Outcome<()> {
    const LOGINS: usize = 400;
    let folder = tempfile::tempdir()?;
    population::accounts(folder.path(), 1, &credentials())?;
    let (server, yardstick) = (cairn(folder.path())?, relay()?);
    let (tls, keys) = (connector(), keys());
    let mut costs = [0, 0];
    // Turn and turn about, so that a busy moment of the machine meets both.
    for round in 0..=4 {
        let before = [cpu_us(server.pid()), cpu_us(yardstick.pid())];
        for _ in 0..LOGINS / 4 {
            let mut client = Client::connect(&tls, server.port).await?;
            log_in(&mut client, "u0", &keys).await?;
        }
        for _ in 0..LOGINS / 4 {
            let mut client = Client::connect(&tls, yardstick.port).await?;
            client.send("echo\n").await?;
            client.until("ok\n").await?;
            for trip in 0..6 {
                let text = format!("{BODY}{trip}.");
                client.send(&text).await?;
                client.until(&text).await?;
            }
        }
        if round > 0 {
            costs[0] += cpu_us(server.pid()) - before[0];
            costs[1] += cpu_us(yardstick.pid()) - before[1];
        }
    }
    report("login", "µs of server CPU a log-in", costs, LOGINS);
    Ok(())
}

fn report(name: &str, unit: &str, [ours, bare]: [u64; 2], count: usize) {
    let (ours, bare) = (ours as f64 / count as f64, bare as f64 / count as f64);
    println!(
        "{name}: {ours:.1} {unit}, yardstick {bare:.1}, ratio {:.2}",
        ours / bare
    );
}

/// A conversation of two, `in_flight` messages at a time.
async fn converse(
    a: &mut Client,
    b: &mut Client,
    to: &str,
    count: usize,
    in_flight: usize,
    end: &str,
) -> Outcome<()> {
    let mut sent = 0;
    while sent < count {
        let burst: String = (sent..sent + in_flight)
            .map(|number| message(to, number))
            .collect();
        a.send(&burst).await?;
        for number in sent..sent + in_flight {
            b.until(&format!("m{number:08}")).await?;
            b.until("</message>").await?;
        }
        sent += in_flight;
        if !end.is_empty() {
            a.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
            a.until(end).await?;
        }
    }
    Ok(())
}

/// CPU of a message, plain and durable, beside a relay of the same bytes.
pub async fn chat() -> Outcome<()> {
    const MESSAGES: usize = 8_000;
    let folder = tempfile::tempdir()?;
    population::accounts(folder.path(), 4, &credentials())?;
    let (server, yardstick) = (cairn(folder.path())?, relay()?);
    let (tls, keys) = (connector(), keys());
    let mut pair = (
        Client::connect(&tls, server.port).await?,
        Client::connect(&tls, server.port).await?,
    );
    log_in(&mut pair.0, "u0", &keys).await?;
    log_in(&mut pair.1, "u1", &keys).await?;
    let mut managed = (
        Client::connect(&tls, server.port).await?,
        Client::connect(&tls, server.port).await?,
    );
    log_in(&mut managed.0, "u2", &keys).await?;
    log_in(&mut managed.1, "u3", &keys).await?;
    managed.0.enable_management().await?;
    let mut bare = (
        channel(&tls, &yardstick, "x/a").await?,
        channel(&tls, &yardstick, "x/b").await?,
    );
    for (in_flight, durable) in [(1, false), (8, false), (8, true)] {
        let mut costs = [0, 0];
        for round in 0..=4 {
            let before = [cpu_us(server.pid()), cpu_us(yardstick.pid())];
            let end = if durable { "<a " } else { "" };
            let (from, to, name) = match durable {
                true => (&mut managed.0, &mut managed.1, "u3@localhost"),
                false => (&mut pair.0, &mut pair.1, "u1@localhost"),
            };
            converse(from, to, name, MESSAGES / 4, in_flight, end).await?;
            converse(
                &mut bare.0,
                &mut bare.1,
                "u1@localhost",
                MESSAGES / 4,
                in_flight,
                "",
            )
            .await?;
            if round > 0 {
                costs[0] += cpu_us(server.pid()) - before[0];
                costs[1] += cpu_us(yardstick.pid()) - before[1];
            }
        }
        let kind = if durable {
            ", durable before the ack"
        } else {
            ""
        };
        report(
            &format!("chat, {in_flight} in flight{kind}"),
            "µs of server CPU a message",
            costs,
            MESSAGES,
        );
    }
    Ok(())
}

async fn channel(tls: &TlsConnector, yardstick: &Process, name: &str) -> Outcome<Client> {
    let mut client = Client::connect(tls, yardstick.port).await?;
    client.send(name).await?;
    client.until("ok\n").await?;
    Ok(client)
}

/// Memory of an idle session, and after a burst.
pub async fn idle() -> Outcome<()> {
    let sessions = std::env::var("CAIRN_LOAD_SESSIONS").ok();
    let sessions = sessions
        .and_then(|text| text.parse().ok())
        .unwrap_or(5_000_usize);
    let folder = tempfile::tempdir()?;
    population::accounts(folder.path(), sessions, &credentials())?;
    let (server, yardstick) = (cairn(folder.path())?, relay()?);
    let (tls, keys) = (connector(), keys());
    let before = [pss_kib(server.pid()), pss_kib(yardstick.pid())];
    let mut clients = Vec::with_capacity(sessions);
    let mut bare = Vec::with_capacity(sessions);
    for number in 0..sessions {
        let mut client = Client::connect(&tls, server.port).await?;
        log_in(&mut client, &format!("u{number}"), &keys).await?;
        clients.push(client);
        bare.push(channel(&tls, &yardstick, "echo").await?);
    }
    let settle = std::time::Duration::from_secs(12);
    tokio::time::sleep(settle).await;
    let each = |now: u64, before: u64| (now.saturating_sub(before)) as f64 / sessions as f64;
    let idle = each(pss_kib(server.pid()), before[0]);
    let relay = each(pss_kib(yardstick.pid()), before[1]);
    println!(
        "idle: {idle:.2} KiB of PSS a session, bare tokio-rustls {relay:.2}, ratio {:.2}",
        idle / relay
    );
    for (number, client) in clients.iter_mut().enumerate() {
        let to = format!("u{}@localhost", (number + 1) % sessions);
        let burst: String = (0..4).map(|n| message(&to, n)).collect();
        client.send(&burst).await?;
    }
    let patience = std::time::Duration::from_secs(20);
    for (number, client) in clients.iter_mut().enumerate() {
        for got in 0..4 {
            let message = tokio::time::timeout(patience, client.until("</message>")).await;
            message.map_err(|_| format!("client {number} got {got} messages of 4"))??;
        }
    }
    tokio::time::sleep(settle).await;
    let after = each(pss_kib(server.pid()), before[0]);
    println!("idle: {after:.2} KiB of PSS a session after a burst of 4 messages to each");
    Ok(())
}

/// Offline messages accepted a second, each durable before its ack.
pub async fn offline() -> Outcome<()> {
    const SENDERS: usize = 16;
    const BURSTS: usize = 40;
    const IN_FLIGHT: usize = 64;
    let folder = tempfile::tempdir()?;
    population::accounts(folder.path(), 2 * SENDERS, &credentials())?;
    let server = cairn(folder.path())?;
    let (tls, keys) = (connector(), keys());
    let mut tasks = Vec::new();
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        let mut client = Client::connect(&tls, server.port).await?;
        log_in(&mut client, &format!("u{number}"), &keys).await?;
        client.enable_management().await?;
        senders.push(client);
    }
    let (start, cpu) = (Instant::now(), cpu_us(server.pid()));
    for (number, mut client) in senders.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            let to = format!("u{}@localhost", number + SENDERS);
            for burst in 0..BURSTS {
                let texts: String = (0..IN_FLIGHT)
                    .map(|n| message(&to, burst * IN_FLIGHT + n))
                    .collect();
                client.send(&texts).await?;
                client.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
                client
                    .until(&format!("h='{}'", (burst + 1) * IN_FLIGHT))
                    .await?;
            }
            Outcome::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let count = SENDERS * BURSTS * IN_FLIGHT;
    let per_s = count as f64 / start.elapsed().as_secs_f64();
    let bare =
        population::bare_committed_per_s(folder.path(), SENDERS, message("u0@localhost", 0).len())?;
    println!(
        "offline: {per_s:.0} messages a second accepted durably, {:.1} µs of server CPU each, {SENDERS} senders; \
         bare write+fdatasync with {SENDERS} committers {bare:.0}, ratio {:.2}",
        (cpu_us(server.pid()) - cpu) as f64 / count as f64,
        per_s / bare
    );
    Ok(())
}

/// From the start of the process to the first log-in, with a populated store.
pub async fn restart() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    population::town(folder.path(), &credentials())?;
    let (tls, keys) = (connector(), keys());
    for _ in 0..3 {
        let start = Instant::now();
        let server = cairn(folder.path())?;
        let listening = start.elapsed();
        let mut client = Client::connect(&tls, server.port).await?;
        log_in(&mut client, "u0", &keys).await?;
        println!(
            "restart: {:.3} s to the first log-in ({:.3} s to listening) with 100,000 accounts, 10,000 rosters \
             of ten, 30,000 offline messages; {} MiB of PSS",
            start.elapsed().as_secs_f64(),
            listening.as_secs_f64(),
            pss_kib(server.pid()) / 1024
        );
    }
    Ok(())
}
