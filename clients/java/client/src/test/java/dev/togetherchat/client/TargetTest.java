package dev.togetherchat.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Which targets are on this machine: only for these is plaintext the default. */
class TargetTest {
    /** A target is local if all its addresses are loopback. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "localhost:50051",
                "127.0.0.1:1",
                "127.255.0.9:1",
                "[::1]:50051",
                "[0:0:0:0:0:0:0:1]:443",
                "dns:///localhost:50051",
                "dns:127.0.0.1:50051",
                "unix:/run/chat.sock",
                "unix:///run/chat.sock"
            })
    void thisMachine(String target) {
        assertEquals(true, Target.isLocal(target));
    }

    /** grpc-java requires slashes after dns: */
    @Test
    void dnsIsWrittenWithSlashes() {
        assertEquals("dns:///chat.example.com:443", Target.forGrpc("dns:chat.example.com:443"));
        assertEquals("dns:///chat.example.com:443", Target.forGrpc("dns:///chat.example.com:443"));
        assertEquals("localhost:50051", Target.forGrpc("localhost:50051"));
    }

    /** Any other target is not local, even if its name looks like a loopback address. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "chat.example.com:443",
                "localhost.example.com:50051",
                "127.0.0.1.example.com:443",
                "127.0.0.256:443",
                "127.0.0.01:443",
                "10.0.0.1:50051",
                "[2001:db8::1]:50051",
                "dns:///chat:443",
                "xds:///localhost"
            })
    void anotherMachine(String target) {
        assertEquals(false, Target.isLocal(target));
    }
}
