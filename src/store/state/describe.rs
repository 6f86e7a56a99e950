//! Whose record it is, in words for the operator.

use crate::store::fold::Record;
use crate::store::records::{
    AccountBody, ArchivedAccountRemovedV1, ArchivedCredentialsChangedV1, ArchivedEnabledV1,
    ArchivedHibernatedRemovedV1, ArchivedHibernatedV1, ArchivedLastActivityV1, ArchivedMessageV1,
    ArchivedPrivateV1, ArchivedRetiredV1, ArchivedRosterItemV1, ArchivedRosterRemovedV1,
    ArchivedSettingRemovedV1, ArchivedSettingV1, ArchivedSubscriptionRequestV1, ArchivedVcardV1,
    BadBody, Kind, open,
};

/// One line on a record; nothing of what it holds beyond names and addresses.
pub(super) fn describe(record: &Record<'_>) -> Option<String> {
    describe_kind(Kind::from_number(record.kind)?, record.version, record.body).ok()
}

// One arm a kind: a table.
fn describe_kind(kind: Kind, version: u8, body: &[u8]) -> Result<String, BadBody> {
    Ok(match kind {
        Kind::Account => format!("account of {}", AccountBody::open(version, body)?.owner),
        Kind::AccountRemoved => format!(
            "removal of {}",
            open::<ArchivedAccountRemovedV1<'_>>(body)?.owner
        ),
        Kind::CredentialsChanged => {
            format!(
                "credentials of {}",
                open::<ArchivedCredentialsChangedV1<'_>>(body)?.owner
            )
        }
        Kind::Enabled => format!(
            "log-in right of {}",
            open::<ArchivedEnabledV1<'_>>(body)?.owner
        ),
        Kind::RosterItem => {
            let body = open::<ArchivedRosterItemV1<'_>>(body)?;
            format!("roster item {} of {}", body.contact, body.owner)
        }
        Kind::RosterRemoved => {
            let body = open::<ArchivedRosterRemovedV1<'_>>(body)?;
            format!("removal of roster item {} of {}", body.contact, body.owner)
        }
        Kind::SubscriptionRequest | Kind::SubscriptionRequestRemoved => {
            let body = open::<ArchivedSubscriptionRequestV1<'_>>(body)?;
            format!("subscription request of {} to {}", body.contact, body.owner)
        }
        Kind::Message => {
            let body = open::<ArchivedMessageV1<'_>>(body)?;
            format!(
                "message for {}, received at {} ms",
                body.owner, body.received_at_ms
            )
        }
        Kind::Retired => format!(
            "delivered messages of {}",
            open::<ArchivedRetiredV1<'_>>(body)?.owner
        ),
        Kind::Vcard | Kind::VcardRemoved => {
            format!("vCard of {}", open::<ArchivedVcardV1<'_>>(body)?.owner)
        }
        Kind::Private | Kind::PrivateRemoved => {
            let body = open::<ArchivedPrivateV1<'_>>(body)?;
            format!("private element {} of {}", body.name, body.owner)
        }
        Kind::LastActivity => format!(
            "last activity of {}",
            open::<ArchivedLastActivityV1<'_>>(body)?.owner
        ),
        Kind::Hibernated => format!(
            "sleeping session of {}",
            open::<ArchivedHibernatedV1<'_>>(body)?.owner
        ),
        Kind::HibernatedRemoved => {
            format!(
                "end of a sleeping session of {}",
                open::<ArchivedHibernatedRemovedV1<'_>>(body)?.owner
            )
        }
        Kind::Setting => format!("setting {}", open::<ArchivedSettingV1<'_>>(body)?.name),
        Kind::SettingRemoved => format!(
            "removal of setting {}",
            open::<ArchivedSettingRemovedV1<'_>>(body)?.name
        ),
        Kind::AccountImage | Kind::RosterImage | Kind::SettingsImage => {
            return Err(BadBody);
        }
    })
}
