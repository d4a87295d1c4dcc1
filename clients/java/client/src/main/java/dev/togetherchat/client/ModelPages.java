package dev.togetherchat.client;

import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.ListModelsResponse;
import dev.togetherchat.v1.Model;
import java.util.Collections;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Function;

/** Iterates over the models of all pages. */
final class ModelPages implements Iterator<Model> {
    private final Function<ListModelsRequest, ListModelsResponse> list;
    private ListModelsRequest next;
    private Iterator<Model> page = Collections.emptyIterator();

    ModelPages(Function<ListModelsRequest, ListModelsResponse> list, ListModelsRequest filters) {
        this.list = list;
        this.next = filters;
    }

    @Override
    public boolean hasNext() {
        while (!page.hasNext() && next != null) {
            ListModelsResponse response = list.apply(next);
            page = response.getModelsList().iterator();
            String token = response.getNextPageToken();
            next = token.isEmpty() ? null : next.toBuilder().setPageToken(token).build();
        }
        return page.hasNext();
    }

    @Override
    public Model next() {
        if (!hasNext()) {
            throw new NoSuchElementException("there are no more models");
        }
        return page.next();
    }
}
