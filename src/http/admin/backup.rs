//! Backups, as streams of frames. They are encrypted where the command runs: the server never
//! learns the passphrase.

use std::io;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode};

use super::claim::check_code;
use super::{on_a_thread, perform_streaming};
use crate::http::Site;
use crate::http::answer::{self, Answer};
use crate::http::body;
use crate::http::routes::{Asked, parameter};
use crate::http::serve::Visitor;

/// `GET backup`, or `GET backup?after=JID&store=NAME&begun=MS` to go on with one behind an account.
pub(in crate::http) fn take(asked: &Asked) -> Result<Answer, Answer> {
    let so_far = ["after", "store", "begun"].map(|name| parameter(&asked.request, name));
    let mut words = vec!["backup"];
    if let [Some(after), Some(store), Some(begun)] = &so_far {
        words.extend([after.as_str(), store, begun]);
    }
    let (mut writer, pieces) = body::answer_pieces();
    // It goes on by itself as long as somebody reads the answer.
    drop(on_a_thread(
        &asked.site,
        &words,
        move |operator, words, _| {
            let done = operator.perform(words, &mut io::empty(), &mut writer);
            if let Err(refused) = &done {
                tracing::warn!("a backup was broken off: {refused}");
                writer.break_off(&refused.sentence);
            }
            done
        },
    )?);
    Ok(answer::stream(pieces))
}

/// `PUT /restore`, by somebody who has the one-time code: `Authorization: Claim CODE`.
pub(in crate::http) async fn restore(
    site: &Arc<Site>,
    visitor: &Visitor,
    request: Request<Incoming>,
) -> Result<Answer, Answer> {
    let field = request.headers().get(AUTHORIZATION);
    let code = field
        .and_then(|value| value.to_str().ok()?.strip_prefix("Claim "))
        .ok_or_else(|| {
            let why = "a backup is restored by whoever has the one-time code of the server";
            answer::error(StatusCode::FORBIDDEN, why)
        })?;
    check_code(site, visitor, code)?;
    perform_streaming(site, &["restore", "by-code"], request.into_body()).await
}
