//! The libp2p shell: swarm, transports, discovery, streams. It decides no policy.
