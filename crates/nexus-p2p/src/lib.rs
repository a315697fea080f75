//! The gate to libp2p: who is a peer of this cluster, gossip, questions and answers.
