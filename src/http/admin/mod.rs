//! The commands, one file a group.

use std::io::{self, Write};
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use zeroize::Zeroizing;

use super::answer::{self, Answer};
use super::{Site, body};
use crate::service::operator::{Operator, Refused};

pub(super) mod backup;
pub(super) mod certificate;
pub(super) mod claim;
pub(super) mod configuration;
pub(super) mod doctor;
pub(super) mod log;
pub(super) mod machine;
pub(super) mod store;
pub(super) mod tokens;
pub(super) mod users;

/// Bytes of what a command may say in one answer.
const SAID_BYTES_MAX: usize = 1 << 20;

/// Performs a command with this input and answers with what it says.
async fn perform(site: &Arc<Site>, words: &[&str], input: &str) -> Result<Answer, Answer> {
    let said = run(site, words, input).await?;
    Ok(answer::said(&said))
}

/// Performs a command with this input; what it says.
async fn run(site: &Arc<Site>, words: &[&str], input: &str) -> Result<Zeroizing<Vec<u8>>, Answer> {
    let input = Zeroizing::new(input.to_owned());
    let performed = on_a_thread(site, words, move |operator, words, output| {
        operator.perform(words, &mut input.as_bytes(), output)
    })?;
    performed.await
}

/// Performs a command with a body as its input, while that arrives.
async fn perform_streaming(
    site: &Arc<Site>,
    words: &[&str],
    body: Incoming,
) -> Result<Answer, Answer> {
    let (sender, mut reader) = body::pieces();
    let performed = on_a_thread(site, words, move |operator, words, output| {
        operator.perform(words, &mut reader, output)
    })?;
    let (said, ()) = tokio::join!(performed, body::pump(body, sender));
    Ok(answer::said(&said?))
}

/// Runs a command on a thread of its own, if there is room for it.
fn on_a_thread(
    site: &Arc<Site>,
    words: &[&str],
    perform: impl FnOnce(&Operator, &[String], &mut dyn Write) -> Result<(), Refused> + Send + 'static,
) -> Result<impl Future<Output = Result<Zeroizing<Vec<u8>>, Answer>>, Answer> {
    let Ok(place) = site.commands.clone().try_acquire_owned() else {
        return Err(busy());
    };
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let operator = Arc::clone(&site.operator);
    let performed = tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut output = Bounded(Zeroizing::new(Vec::new()));
        let done = perform(&operator, &words, &mut output);
        (done, output.0)
    });
    Ok(async {
        match performed.await {
            Ok((Ok(()), said)) => Ok(said),
            Ok((Err(refused), said)) => Err(answer::refused(&refused, &said)),
            Err(_) => Err(answer::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "something went wrong here: look at the server's log",
            )),
        }
    })
}

fn busy() -> Answer {
    answer::error(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many commands run at once: try again",
    )
}

/// What a command says, up to a bound.
struct Bounded(Zeroizing<Vec<u8>>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > SAID_BYTES_MAX {
            return Err(io::Error::other("it is too long for one answer"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
