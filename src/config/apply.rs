//! The configuration in the words of the layers that work by it.

use super::Limits;
use crate::store::StoreLimits;
use crate::xml;

impl Limits {
    /// What an account may keep.
    #[must_use]
    pub fn store(&self) -> StoreLimits {
        StoreLimits {
            accounts_max: self.accounts,
            messages_max: self.offline_messages,
            message_bytes_max: self.offline_bytes,
            roster_items_max: self.roster_items,
            roster_item_bytes_max: self.roster_item_bytes,
            roster_bytes_max: self.roster_bytes,
            subscription_requests_max: self.subscription_requests,
            subscription_request_bytes_max: self.subscription_request_bytes,
            vcard_bytes_max: self.vcard_bytes,
            private_elements_max: self.private_elements,
            private_bytes_max: self.private_bytes,
            sessions_max: self.sessions_per_account,
            ..StoreLimits::default()
        }
    }

    /// What a stream may send before its log-in.
    #[must_use]
    pub fn before_authentication(&self) -> xml::Limits {
        xml::Limits {
            stanza_bytes_max: self.unauthenticated_bytes,
            elements_max: self.unauthenticated_elements,
            stream_bytes_max: self.unauthenticated_bytes,
            stream_elements_max: self.unauthenticated_elements,
            ..xml::Limits::before_authentication()
        }
    }

    /// What it may send after that.
    #[must_use]
    pub fn after_authentication(&self) -> xml::Limits {
        xml::Limits {
            stanza_bytes_max: self.stanza_bytes,
            depth_max: self.stanza_depth,
            elements_max: self.stanza_elements,
            attributes_max: self.element_attributes,
            name_bytes_max: self.name_bytes,
            attribute_bytes_max: self.attribute_bytes,
            ..xml::Limits::after_authentication()
        }
    }
}
