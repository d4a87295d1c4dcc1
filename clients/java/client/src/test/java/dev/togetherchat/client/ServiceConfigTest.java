package dev.togetherchat.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The service config, as grpc-java wants to be given it. */
class ServiceConfigTest {
    /** Maps, lists, texts and doubles, down to the leaves. */
    @Test
    void itIsTheFileBesideTheProtosInGrpcsForm() {
        Map<String, Object> config = ServiceConfig.load();
        assertEquals(List.of(Map.of("round_robin", Map.of())), config.get("loadBalancingConfig"));
        assertEquals(Map.of("serviceName", TogetherChat.SERVICE), config.get("healthCheckConfig"));
        assertEquals(Map.of("maxTokens", 400.0, "tokenRatio", 0.1), config.get("retryThrottling"));
    }

    /** A key that metadata cannot carry is refused where it is given, and not repeated. */
    @Test
    void anIllegalKeyIsRefusedWithoutBeingRepeated() {
        TogetherChatBuilder builder = TogetherChat.builder("localhost");
        IllegalArgumentException refused =
                assertThrows(IllegalArgumentException.class, () -> builder.key("sec ret"));
        assertEquals("key is empty or has a character that metadata cannot carry", refused.getMessage());
    }
}
