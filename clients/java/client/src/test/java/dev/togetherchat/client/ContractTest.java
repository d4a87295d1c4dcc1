package dev.togetherchat.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.Descriptors.FieldDescriptor;
import dev.togetherchat.v1.TokenLogprob;
import dev.togetherchat.v1.TopLogprob;
import org.junit.jupiter.api.Test;

/** The one field whose name differs in Java. */
class ContractTest {
    /** Its number and its JSON name are the contract's. */
    @Test
    void theBytesOfATokenAreTheContractsOnTheWireAndInJson() {
        FieldDescriptor ofToken = TokenLogprob.getDescriptor().findFieldByNumber(4);
        FieldDescriptor ofAlternative = TopLogprob.getDescriptor().findFieldByNumber(3);
        assertEquals("tokenBytes", ofToken.getJsonName());
        assertEquals("tokenBytes", ofAlternative.getJsonName());
        assertEquals(FieldDescriptor.Type.BYTES, ofToken.getType());
        assertEquals(FieldDescriptor.Type.BYTES, ofAlternative.getType());
    }
}
