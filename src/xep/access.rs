//! Who may know that somebody is there (RFC 6120 §13.10.2): the question that several extensions
//! ask before they answer for an account.

use crate::addr::Jid;
use crate::router::Cx;

/// Whether `asker` may see the presence of the account `owner`: it is its own, or the account
/// has given it a subscription (`from` or `both`). Nobody may see an account that does not exist.
pub fn sees_presence(cx: &mut Cx<'_>, owner: &Jid, asker: &Jid) -> bool {
    if owner.bare_str() == asker.bare_str() {
        return true;
    }
    cx.read(|state| {
        let account = state.account(owner.bare_str())?;
        let item = account.roster().item_of(asker.bare_str())?;
        Some(item.subscription().has_from())
    })
    .unwrap_or(false)
}
