//! Two ends over real sockets.
