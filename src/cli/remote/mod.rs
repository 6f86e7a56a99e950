//! A server elsewhere: the same commands, over its admin interface.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Failure;
use super::user::{Asked, ask, first_line};
use crate::net::tls::{Entry, Pin, TlsClient};
use crate::service::operator::PASSWORD_LINE_BYTES_MAX;
pub(super) use backup::{back_up, restore};
pub(super) use http::Client;
use http::{Body, Reply};

mod backup;
mod http;

/// How long the server may be silent: it may read all of its store for an answer.
const PATIENCE: Duration = Duration::from_secs(900);

/// Bytes of an answer that is read whole.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Which server, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Administration from outside")]
pub(super) struct Remote {
    /// Do it on this server, through its [listen] https
    #[arg(long, global = true, value_name = "https://HOST[:PORT]")]
    pub(super) server: Option<String>,
    /// Know the server by the fingerprint of its certificate, which its console and `cairn cert
    /// show` tell; without it the authorities that this system trusts are asked
    #[arg(long, global = true, value_name = "SHA256")]
    pin: Option<String>,
    /// The administrator to do it as; asks for the password
    #[arg(long = "as", global = true, value_name = "JID")]
    administrator: Option<String>,
    /// Read the administrator's password from the first line of this file
    #[arg(long = "as-password-file", global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The file of a token of `cairn token new`; else CAIRN_TOKEN in the environment
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Performs a command there.
pub(super) fn perform(
    remote: &Remote,
    words: &[String],
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut client = remote.log_in()?;
    match words[..] {
        ["user", "list"] => list_users(&mut client, output),
        ["user", "list", "admin"] => {
            let answer = tell(client.request("GET", "/admin/administrators", Body::None)?)?;
            print_users(&answer, output).map(drop)
        }
        _ => {
            let (method, path, body) = request(&words, input)?;
            say(client.request(method, &path, body)?, output)
        }
    }
}

/// What a command is there.
fn request<'a>(
    words: &[&str],
    input: &'a mut dyn Read,
) -> Result<(&'static str, String, Body<'a>), Failure> {
    let user = |jid: &str, rest: &str| format!("/admin/users/{}{rest}", encoded(jid));
    let mut password = || read_password(&mut *input);
    Ok(match *words {
        ["user", "add", jid] => {
            let new = json!({ "jid": jid, "password": *password()?, "admin": false });
            ("POST", "/admin/users".to_owned(), Body::Json(new))
        }
        ["user", "add", jid, "admin"] => {
            let new = json!({ "jid": jid, "password": *password()?, "admin": true });
            ("POST", "/admin/users".to_owned(), Body::Json(new))
        }
        ["user", "passwd", jid] => {
            let with = json!({ "password": *password()? });
            ("PUT", user(jid, "/password"), Body::Json(with))
        }
        ["user", "admin", jid] => {
            let with = json!({ "password": *password()? });
            ("PUT", user(jid, "/administrator"), Body::Json(with))
        }
        ["user", "no-admin", jid] => ("DELETE", user(jid, "/administrator"), Body::None),
        ["user", "remove", jid] => ("DELETE", user(jid, ""), Body::None),
        ["token", "new", name, days] => {
            let days: u32 = days.parse().unwrap_or(0);
            let new = json!({ "name": name, "days": days });
            ("POST", "/admin/tokens".to_owned(), Body::Json(new))
        }
        ["token", "list"] => ("GET", "/admin/tokens".to_owned(), Body::None),
        ["token", "revoke", id] => {
            let path = format!("/admin/tokens/{}", encoded(id));
            ("DELETE", path, Body::None)
        }
        ["store", "stat"] => ("GET", "/admin/store".to_owned(), Body::None),
        ["store", "verify"] => ("POST", "/admin/store/verification".to_owned(), Body::None),
        ["config", "get"] => ("GET", "/admin/configuration".to_owned(), Body::None),
        ["config", "get", key] => {
            let path = format!("/admin/configuration?key={}", encoded(key));
            ("GET", path, Body::None)
        }
        ["config", "set", key, value] => {
            let change = json!({ "key": key, "value": value });
            ("PUT", "/admin/configuration".to_owned(), Body::Json(change))
        }
        ["cert", "show"] => ("GET", "/admin/certificate".to_owned(), Body::None),
        ["cert", "show", domain] => {
            let path = format!("/admin/certificate?host={}", encoded(domain));
            ("GET", path, Body::None)
        }
        ["cert", "set", ref domain @ ..] if domain.len() <= 1 => {
            let mut pem = Zeroizing::new(String::new());
            let read = input.read_to_string(&mut pem);
            read.map_err(|error| Failure::refused(format!("the input cannot be read: {error}")))?;
            let new = match domain {
                [domain] => json!({ "pem": *pem, "host": domain }),
                _ => json!({ "pem": *pem }),
            };
            ("PUT", "/admin/certificate".to_owned(), Body::Json(new))
        }
        ["reboot"] => ("POST", "/admin/machine/reboot".to_owned(), Body::None),
        ["rollback"] => ("POST", "/admin/machine/rollback".to_owned(), Body::None),
        ["upgrade", bytes] => {
            let bytes = bytes.parse().unwrap_or(0);
            let path = "/admin/machine/system".to_owned();
            ("PUT", path, Body::Bytes(input, bytes))
        }
        _ => {
            return Err(Failure::refused(format!(
                "cairn {} is not done from outside: leave out --server",
                words.join(" ")
            )));
        }
    })
}

/// One request of which the answer is wanted as it is.
pub(super) fn ask_json(client: &mut Client, method: &str, path: &str) -> Result<Value, Failure> {
    tell(client.request(method, path, Body::None)?)
}

/// Claims a server: becomes its first administrator.
pub(super) fn claim(
    remote: &Remote,
    code: &str,
    jid: &str,
    password: &str,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let mut client = remote.connect(None)?;
    let claim = json!({ "code": code, "jid": jid, "password": password });
    say(client.request("POST", "/claim", Body::Json(claim))?, output)
}

impl Remote {
    /// The same options for a server that is named in another place.
    pub(super) fn to(&self, server: String) -> Remote {
        Remote {
            server: Some(server),
            pin: self.pin.clone(),
            administrator: None,
            password_file: None,
            token_file: None,
        }
    }

    /// Connects as somebody who may administer.
    pub(super) fn log_in(&self) -> Result<Client, Failure> {
        if self.server.is_none() {
            return Err(Failure::refused(
                "this is done to a machine from outside: name it with --server",
            ));
        }
        let authorization = self.authorization()?;
        self.connect(Some(authorization))
    }

    /// Refuses options that contradict each other, or do nothing.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let others = [
            self.pin.is_some(),
            self.administrator.is_some(),
            self.password_file.is_some(),
            self.token_file.is_some(),
        ];
        let sentence = match (&self.server, &self.administrator) {
            (None, _) if others.contains(&true) => "which server? name it with --server",
            (_, Some(_)) if self.token_file.is_some() => {
                "an administrator or a token: leave out --as or --token-file"
            }
            (_, None) if self.password_file.is_some() => {
                "whose password is in --as-password-file? name the administrator with --as"
            }
            _ => return Ok(()),
        };
        Err(Failure {
            code: 2,
            ..Failure::refused(sentence)
        })
    }

    /// Connects to the server.
    fn connect(&self, authorization: Option<Zeroizing<String>>) -> Result<Client, Failure> {
        let server = self.server.as_deref().unwrap_or_default();
        let (host, port) = host_and_port(server).ok_or_else(|| {
            Failure::refused(format!(
                "{server:?} is no server: write https://HOST or https://HOST:PORT"
            ))
        })?;
        let pin = match &self.pin {
            None => None,
            Some(text) => Some(Pin::parse(text).ok_or_else(|| {
                Failure::refused(
                    "--pin takes a fingerprint: 64 hexadecimal digits, with colons or without",
                )
            })?),
        };
        let stream = TlsClient::connect(&host, port, Entry::Https, pin, PATIENCE)
            .map_err(|error| Failure::refused(format!("{server}: {error}")))?;
        let name = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        Ok(Client::new(stream, name, authorization))
    }

    /// The field of that name: a token, or an administrator with a password.
    fn authorization(&self) -> Result<Zeroizing<String>, Failure> {
        if let Some(jid) = &self.administrator {
            let password = match &self.password_file {
                None => ask(jid, Asked::Once)?,
                Some(path) => {
                    let name = path.display().to_string();
                    first_line(&mut BufReader::new(opened(path)?), &name)?
                }
            };
            let both = Zeroizing::new(format!("{jid}:{}", *password));
            let encoded = Zeroizing::new(STANDARD.encode(both.as_bytes()));
            return Ok(Zeroizing::new(format!("Basic {}", *encoded)));
        }
        let token = match &self.token_file {
            Some(path) => {
                let name = path.display().to_string();
                first_line(&mut BufReader::new(opened(path)?), &name)?
            }
            None => Zeroizing::new(std::env::var("CAIRN_TOKEN").map_err(|_| {
                Failure::refused(
                    "as whom? name an administrator with --as, or give a token with --token-file \
                     or in CAIRN_TOKEN",
                )
            })?),
        };
        let token = token.trim();
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match is_token {
            true => Ok(Zeroizing::new(format!("Bearer {token}"))),
            false => Err(Failure::refused("what was given as a token is none")),
        }
    }
}

fn opened(path: &PathBuf) -> Result<File, Failure> {
    File::open(path)
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))
}

/// Page by page.
fn list_users(client: &mut Client, output: &mut dyn Write) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let path = format!("/admin/users?after={}", encoded(&after));
        let answer = tell(client.request("GET", &path, Body::None)?)?;
        match print_users(&answer, output)? {
            Some(last) if answer["more"] == true && last > after => after = last,
            _ => return Ok(()),
        }
    }
}

/// Prints the users of an answer; the last of them.
fn print_users(answer: &Value, output: &mut dyn Write) -> Result<Option<String>, Failure> {
    let users = answer["users"].as_array().into_iter().flatten();
    let mut last = None;
    for user in users.filter_map(Value::as_str) {
        writeln!(output, "{user}")?;
        last = Some(user.to_owned());
    }
    Ok(last)
}

/// Prints the text of an answer, also of one that is a refusal.
fn say(reply: Reply<'_>, output: &mut dyn Write) -> Result<(), Failure> {
    let (status, answer) = answer_of(reply)?;
    if let Some(text) = answer["text"].as_str().filter(|text| !text.is_empty()) {
        writeln!(output, "{text}")?;
    }
    checked(status, answer).map(drop)
}

/// An answer, unless it is a refusal.
fn tell(reply: Reply<'_>) -> Result<Value, Failure> {
    let (status, answer) = answer_of(reply)?;
    checked(status, answer)
}

fn answer_of(reply: Reply<'_>) -> Result<(u16, Value), Failure> {
    let status = reply.status;
    let mut text = Vec::new();
    let read = reply.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| broken(&error))?;
    Ok((status, serde_json::from_slice(&text).unwrap_or_default()))
}

fn checked(status: u16, answer: Value) -> Result<Value, Failure> {
    match (status, answer["error"].as_str()) {
        (200..300, _) => Ok(answer),
        (_, Some(sentence)) => Err(Failure::refused(sentence)),
        (status, None) => Err(Failure::refused(format!(
            "the server answers with status {status}: is it Cairn's [listen] https?"
        ))),
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::refused(format!(
        "the server went away before it had answered ({error}): look whether it was done, then \
         try again"
    ))
}

/// The first line of the input.
fn read_password(input: &mut dyn Read) -> Result<Zeroizing<String>, Failure> {
    first_line(
        &mut BufReader::new(input.take(PASSWORD_LINE_BYTES_MAX)),
        "the input",
    )
}

/// `https://HOST[:PORT]`, with nothing behind it but a slash.
fn host_and_port(url: &str) -> Option<(String, u16)> {
    let authority = url.strip_prefix("https://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, rest) = match authority.strip_prefix('[') {
        Some(behind) => behind.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match rest {
        "" => 443,
        rest => rest.strip_prefix(':')?.parse().ok()?,
    };
    let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
    is_host.then(|| (host.to_owned(), port))
}

/// As a part of a path or a value of a query (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_https_urls() {
        let is = |url, host: &str, port| {
            assert_eq!(host_and_port(url), Some((host.to_owned(), port)), "{url}");
        };
        is("https://chat.example", "chat.example", 443);
        is("https://chat.example/", "chat.example", 443);
        is("https://chat.example:8443", "chat.example", 8443);
        is("https://[2001:db8::1]", "2001:db8::1", 443);
        is("https://[2001:db8::1]:1", "2001:db8::1", 1);
        for url in [
            "chat.example",
            "http://chat.example",
            "https://",
            "https://chat.example/x",
            "https://a@chat.example",
            "https://chat.example:x",
            "https://chat.example:70000",
            "https://[::1",
        ] {
            assert_eq!(host_and_port(url), None, "{url}");
        }
    }

    #[test]
    fn what_stands_in_a_path_is_encoded() {
        assert_eq!(encoded("a@b.example"), "a%40b.example");
        assert_eq!(encoded("é/?"), "%C3%A9%2F%3F");
    }
}
