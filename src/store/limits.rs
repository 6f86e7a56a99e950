//! How much an account, and the server, may keep.

/// The store's limits. Each of them is a key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Accounts of the server.
    pub accounts_max: usize,
    /// Waiting messages of an account.
    pub messages_max: usize,
    /// Bytes that the waiting messages of an account take on the device.
    pub message_bytes_max: u64,
    /// Items of a roster.
    pub roster_items_max: usize,
    /// Bytes of all texts of a roster item.
    pub roster_item_bytes_max: usize,
    /// Bytes of memory that all rosters may take beyond what each account has for its own.
    pub roster_bytes_max: usize,
    /// Unanswered requests for presence of an account.
    pub subscription_requests_max: usize,
    /// Bytes of such a request; what is longer is kept without its payload.
    pub subscription_request_bytes_max: usize,
    /// Bytes of a vCard.
    pub vcard_bytes_max: usize,
    /// Private XML elements of an account.
    pub private_elements_max: usize,
    /// Bytes of a private XML element.
    pub private_bytes_max: usize,
    /// Sleeping sessions of an account.
    pub sessions_max: usize,
    /// Settings of the server.
    pub settings_max: usize,
    /// Bytes of a setting.
    pub setting_bytes_max: usize,
}

impl StoreLimits {
    /// The same for the server, and none on what one account may keep: for what was kept under
    /// other limits elsewhere.
    #[must_use]
    pub fn of_the_server_alone(&self) -> StoreLimits {
        StoreLimits {
            messages_max: usize::MAX,
            message_bytes_max: u64::MAX,
            roster_items_max: usize::MAX,
            roster_item_bytes_max: usize::MAX,
            subscription_requests_max: usize::MAX,
            subscription_request_bytes_max: usize::MAX,
            vcard_bytes_max: usize::MAX,
            private_elements_max: usize::MAX,
            private_bytes_max: usize::MAX,
            ..self.clone()
        }
    }
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits {
            accounts_max: 1_000_000,
            messages_max: 1_000,
            message_bytes_max: 16 << 20,
            roster_items_max: 2_000,
            roster_item_bytes_max: 8 << 10,
            roster_bytes_max: 256 << 20,
            subscription_requests_max: 200,
            subscription_request_bytes_max: 4 << 10,
            vcard_bytes_max: 256 << 10,
            private_elements_max: 128,
            private_bytes_max: 256 << 10,
            sessions_max: 16,
            settings_max: 1_024,
            setting_bytes_max: 64 << 10,
        }
    }
}
