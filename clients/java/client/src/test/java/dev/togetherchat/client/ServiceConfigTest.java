package dev.togetherchat.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The service config in the form that grpc-java requires. */
class ServiceConfigTest {
    /** The file beside the protos is read as maps, lists, strings and doubles. */
    @Test
    void theFileBesideTheProtosIsReadInGrpcsForm() {
        Map<String, Object> config = ServiceConfig.load();
        assertEquals(List.of(Map.of("round_robin", Map.of())), config.get("loadBalancingConfig"));
        assertEquals(Map.of("serviceName", TogetherChat.SERVICE), config.get("healthCheckConfig"));
        assertEquals(Map.of("maxTokens", 400.0, "tokenRatio", 0.1), config.get("retryThrottling"));
    }

    /** The builder rejects a key that metadata cannot carry, and the exception does not repeat it. */
    @Test
    void anIllegalKeyIsRejectedWithoutBeingRepeated() {
        TogetherChatBuilder builder = TogetherChat.builder("localhost:1");
        IllegalArgumentException rejected =
                assertThrows(IllegalArgumentException.class, () -> builder.key("sec ret"));
        assertEquals(
                "key: must be printable ASCII without spaces (the key is not shown)", rejected.getMessage());
    }
}
