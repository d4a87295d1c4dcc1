# Third-party tools. The version is in the file name, so that make fetches the tool again after a change of the pin.

# Built by Go. The kustomize is the newest that Go 1.26 builds.
GRPCURL            := .tools/grpcurl-v1.9.4
GHZ                := .tools/ghz-v0.120.0
VEGETA             := .tools/vegeta-v12.12.0
PROTOC_GEN_GO      := .tools/protoc-gen-go-v1.36.11
PROTOC_GEN_GO_GRPC := .tools/protoc-gen-go-grpc-v1.6.0
COMPOSE            := .tools/compose-v2.4.9
KUSTOMIZE          := .tools/kustomize-v5.8.1
HELM               := .tools/helm-v3.22.0
KUBE_SCORE         := .tools/kube-score-v1.20.0

go_install = GOBIN=$(CURDIR)/$@.new go install $(1)@v$* && mv $@.new/* $@ && rmdir $@.new

.tools/grpcurl-v%:            ; $(call go_install,github.com/fullstorydev/grpcurl/cmd/grpcurl)
.tools/ghz-v%:                ; $(call go_install,github.com/bojand/ghz/cmd/ghz)
.tools/vegeta-v%:             ; $(call go_install,github.com/tsenart/vegeta/v12)
.tools/protoc-gen-go-v%:      ; $(call go_install,google.golang.org/protobuf/cmd/protoc-gen-go)
.tools/protoc-gen-go-grpc-v%: ; $(call go_install,google.golang.org/grpc/cmd/protoc-gen-go-grpc)
.tools/compose-v%:            ; $(call go_install,github.com/compose-spec/compose-go/v2/cmd)
.tools/kustomize-v%:          ; $(call go_install,sigs.k8s.io/kustomize/kustomize/v5)
.tools/helm-v%:               ; $(call go_install,helm.sh/helm/v3/cmd/helm)
.tools/kube-score-v%:         ; $(call go_install,github.com/zegl/kube-score/cmd/kube-score)

# Built by Go from a module of this repository, which pins the version and all dependencies.
GRPCUI         := .tools/grpcui-$(shell sed -n 's|^require github.com/fullstorydev/grpcui ||p' tests/tools/grpcui/go.mod)
OTEL_COLLECTOR := .tools/otel-collector-$(shell sed -n 's|.*/collector/otelcol ||p' tests/observability/collector/go.mod)

.tools/grpcui-v%: tests/tools/grpcui/go.mod
	cd $(<D) && go build -o $(CURDIR)/$@ github.com/fullstorydev/grpcui/cmd/grpcui

# The first build takes two minutes on two cores.
.tools/otel-collector-v%: tests/observability/collector/go.mod $(wildcard tests/observability/collector/*)
	cd $(<D) && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ .

# Programs of the distribution. The version is the oldest that is accepted: that of Debian 12.
PROMTOOL     := .tools/promtool-v2.42
REDIS_SERVER := .tools/redis-server-v7.0
H2LOAD       := .tools/h2load-v1.52

.tools/promtool-v%:     ; make/install-packaged $@ prometheus
.tools/redis-server-v%: ; make/install-packaged $@ redis-server redis-tools libjemalloc2 liblzf1 libatomic1
.tools/h2load-v%:       ; make/install-packaged $@ nghttp2-client libnghttp2-14 libev4 libjemalloc2

# From Maven, which provides protoc with its generators for C#, Ruby, PHP, Java and Kotlin. buf.gen.yaml pins the versions.
PROTOC               := $(shell sed -n 's/ *protoc_path: //p' buf.gen.yaml | sort -u)
PROTOC_GEN_GRPC_JAVA := $(shell sed -n 's/.*local: //p' buf.gen.yaml)

PLATFORM  = $(shell uname -s | sed 's/Darwin/osx/; s/Linux/linux/')-$(shell uname -m | sed -E 's/aarch64|arm64/aarch_64/')
maven_copy = mvn --batch-mode --quiet dependency:copy -DoutputDirectory=$(CURDIR)/$@.new \
    -Dartifact=$(1):$*:exe:$(PLATFORM) && install -m 755 $@.new/* $@ && rm -r $@.new

.tools/protoc-v%:               ; $(call maven_copy,com.google.protobuf:protoc)
.tools/protoc-gen-grpc-java-v%: ; $(call maven_copy,io.grpc:protoc-gen-grpc-java)
