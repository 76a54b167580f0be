//! Every reason to refuse a head, with the answer that it gets.

use std::fmt;

macro_rules! head_errors {
    (
        $(#[$outer:meta])* $type:ident {
            $($(#[$doc:meta])* $variant:ident = $status:literal, $details:literal, $text:literal;)*
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $variant,)*
        }

        impl $type {
            /// Status of the reply that the client gets.
            pub fn status(self) -> u16 {
                match self { $($type::$variant => $status,)* }
            }

            /// One word for the access log, in the manner of Envoy's `%RESPONSE_CODE_DETAILS%`.
            pub fn details(self) -> &'static str {
                match self { $($type::$variant => $details,)* }
            }

            /// Every reason, for tables and tests.
            pub const ALL: &[$type] = &[$($type::$variant,)*];
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($type::$variant => $text,)* })
            }
        }

        impl std::error::Error for $type {}
    };
}

head_errors! {
    /// Why a request head is refused. Each is answered with [`status`](RequestError::status) and
    /// `Connection: close`; nothing of the connection is read after it.
    RequestError {
        /// Request line other than `method SP target SP version CRLF` (RFC 9112 section 3).
        RequestLine = 400, "http1.invalid_request_line", "malformed request line";
        /// More than one empty line before the request line (RFC 9112 section 2.2).
        LeadingEmptyLines = 400, "http1.leading_empty_lines",
            "more than one empty line before the request line";
        /// A line end without CR, or a CR without LF (RFC 9112 section 2.2).
        LineEnd = 400, "http1.invalid_line_end", "a line of the head does not end in CR LF";
        /// Bytes of a field name that are no token, space before the colon, a folded line.
        FieldName = 400, "http1.invalid_header_name",
            "invalid field name, space before the colon, or folded line";
        /// Control bytes in a field value.
        FieldValue = 400, "http1.invalid_characters", "control byte in a field value";
        /// A target that is neither a path, nor an http(s) URI, nor the `*` of OPTIONS.
        Target = 400, "http1.invalid_url", "invalid request target";
        /// An absolute-form target with a scheme other than http and https.
        TargetScheme = 400, "http1.invalid_scheme", "the request target is no http or https URI";
        /// HTTP/1.1 without `Host`, or with an empty one (RFC 9112 section 3.2).
        HostMissing = 400, "missing_host_header", "Host is missing or empty";
        /// Several `Host` lines.
        HostRepeated = 400, "http1.repeated_host", "several Host fields";
        /// `Host`, or the authority of the target, is not `host[:port]`.
        HostInvalid = 400, "http1.invalid_host", "Host or target authority is not host[:port]";
        /// Both `Content-Length` and `Transfer-Encoding`.
        LengthAndCoding = 400, "http1.content_length_and_chunked_not_allowed",
            "Content-Length together with Transfer-Encoding";
        /// Several `Content-Length` fields.
        LengthRepeated = 400, "http1.repeated_content_length", "several Content-Length fields";
        /// `Content-Length` is not a decimal number of up to 2⁶³.
        LengthInvalid = 400, "http1.invalid_content_length",
            "Content-Length is not one decimal number";
        /// `Transfer-Encoding` is not exactly `chunked`.
        CodingInvalid = 400, "http1.invalid_transfer_encoding",
            "Transfer-Encoding is not exactly chunked";
        /// `Transfer-Encoding` in HTTP/1.0.
        CodingInHttp10 = 400, "http1.transfer_encoding_not_allowed",
            "Transfer-Encoding in an HTTP/1.0 message";
        /// `Connection` names more fields than anyone needs
        /// ([`CONNECTION_OPTIONS_MAX`](crate::limits::CONNECTION_OPTIONS_MAX)).
        ConnectionOptions = 400, "http1.connection_header_rejected", "too many Connection options";
        /// `CONNECT`: there are no tunnels here.
        ConnectMethod = 405, "http1.connect_not_allowed", "CONNECT is not allowed here";
        /// The request line is longer than
        /// [`REQUEST_LINE_BYTES_MAX`](crate::limits::REQUEST_LINE_BYTES_MAX).
        LineTooLong = 414, "http1.request_line_too_long", "the request line is too long";
        /// The head is longer than [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX).
        HeadTooLarge = 431, "http1.headers_too_large", "the request head is too large";
        /// More fields than [`HEADERS_MAX`](crate::limits::HEADERS_MAX).
        TooManyFields = 431, "http1.too_many_headers", "too many header fields";
        /// A transfer coding that exists but is not decoded here (gzip, deflate, compress).
        CodingUnsupported = 501, "http1.unsupported_transfer_encoding",
            "transfer coding not supported";
        /// An HTTP version other than 1.0 and 1.1.
        Version = 505, "http1.unsupported_version", "HTTP version not supported";
    }
}

head_errors! {
    /// Why a response head of an upstream is refused. The client gets 502 with the flag UPE; the
    /// upstream connection is closed.
    ResponseError {
        /// Status line other than `version SP 3DIGIT SP [reason] CRLF`, or an unknown version.
        StatusLine = 502, "upstream_reset_before_response_started{protocol_error|invalid_status_line}", "malformed status line";
        /// A line end without CR, or a CR without LF.
        LineEnd = 502, "upstream_reset_before_response_started{protocol_error|invalid_line_end}",
            "a line of the response head does not end in CR LF";
        /// Bytes of a field name that are no token, space before the colon, a folded line.
        FieldName = 502, "upstream_reset_before_response_started{protocol_error|invalid_header_name}",
            "invalid field name, space before the colon, or folded line";
        /// Control bytes in a field value.
        FieldValue = 502, "upstream_reset_before_response_started{protocol_error|invalid_characters}", "control byte in a field value";
        /// Both `Content-Length` and `Transfer-Encoding`.
        LengthAndCoding = 502, "upstream_reset_before_response_started{protocol_error|content_length_and_chunked}",
            "Content-Length together with Transfer-Encoding";
        /// Several `Content-Length` fields.
        LengthRepeated = 502, "upstream_reset_before_response_started{protocol_error|repeated_content_length}", "several Content-Length fields";
        /// `Content-Length` is not a decimal number of up to 2⁶³.
        LengthInvalid = 502, "upstream_reset_before_response_started{protocol_error|invalid_content_length}",
            "Content-Length is not one decimal number";
        /// `Transfer-Encoding` is not exactly `chunked`.
        CodingInvalid = 502, "upstream_reset_before_response_started{protocol_error|invalid_transfer_encoding}",
            "Transfer-Encoding is not exactly chunked";
        /// `Transfer-Encoding` in HTTP/1.0.
        CodingInHttp10 = 502, "upstream_reset_before_response_started{protocol_error|transfer_encoding_not_allowed}",
            "Transfer-Encoding in an HTTP/1.0 message";
        /// `Connection` names too many fields.
        ConnectionOptions = 502, "upstream_reset_before_response_started{protocol_error|connection_header_rejected}",
            "too many Connection options";
        /// The chunked body is malformed where it begins, so that nothing of it has been sent on.
        ChunkedBody = 502, "upstream_reset_before_response_started{protocol_error|invalid_chunked_body}", "malformed chunked body";
        /// The head is longer than [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX).
        HeadTooLarge = 502, "upstream_reset_before_response_started{protocol_error|headers_too_large}", "the response head is too large";
        /// More fields than [`HEADERS_MAX`](crate::limits::HEADERS_MAX).
        TooManyFields = 502, "upstream_reset_before_response_started{protocol_error|too_many_headers}", "too many header fields";
    }
}

/// A fault that requests and responses share, found by the code that they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    LineEnd,
    LengthAndCoding,
    LengthRepeated,
    LengthInvalid,
    CodingInvalid,
    CodingUnsupported,
    CodingInHttp10,
    ConnectionOptions,
}

impl From<Fault> for RequestError {
    fn from(fault: Fault) -> RequestError {
        match fault {
            Fault::LineEnd => RequestError::LineEnd,
            Fault::LengthAndCoding => RequestError::LengthAndCoding,
            Fault::LengthRepeated => RequestError::LengthRepeated,
            Fault::LengthInvalid => RequestError::LengthInvalid,
            Fault::CodingInvalid => RequestError::CodingInvalid,
            Fault::CodingUnsupported => RequestError::CodingUnsupported,
            Fault::CodingInHttp10 => RequestError::CodingInHttp10,
            Fault::ConnectionOptions => RequestError::ConnectionOptions,
        }
    }
}

impl From<Fault> for ResponseError {
    fn from(fault: Fault) -> ResponseError {
        match fault {
            Fault::LineEnd => ResponseError::LineEnd,
            Fault::LengthAndCoding => ResponseError::LengthAndCoding,
            Fault::LengthRepeated => ResponseError::LengthRepeated,
            Fault::LengthInvalid => ResponseError::LengthInvalid,
            Fault::CodingInvalid | Fault::CodingUnsupported => ResponseError::CodingInvalid,
            Fault::CodingInHttp10 => ResponseError::CodingInHttp10,
            Fault::ConnectionOptions => ResponseError::ConnectionOptions,
        }
    }
}
