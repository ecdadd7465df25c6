# igniter-opt, with its inner loops compiled: docs/container.md
#
#   docker build -t igniter-opt .
#   docker run --rm igniter-opt solve igniter-table3

# Any image with Python 3.11 or later, its venv module and the C++ library of GCC.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
# Where pip looks for packages; these are known to pip by their names, and stay out of the image.
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST
ARG EXTRAS=serve,deploy
# The processors that compiled code is for. `generic` runs everywhere; `x86-64-v3`, say, on those with AVX2.
ARG CPU=generic
ENV NUMBA_CPU_NAME=${CPU}
WORKDIR /src
# Packages in a folder `wheels` beside this file are at hand for a build without an index (PIP_FIND_LINKS=/src/wheels).
COPY . .
# Packages' own tests stay out, with what their bytecode would take; a file that is no Python of this version stays as it is.
RUN python3 -m venv /opt/igniter-opt \
 && /opt/igniter-opt/bin/python -m pip install --no-cache-dir --no-compile --disable-pip-version-check ".[${EXTRAS}]" \
 && /opt/igniter-opt/bin/python -m pip uninstall --quiet --yes setuptools pip \
 && find /opt/igniter-opt/lib -type d -name tests -prune -exec rm -r {} + \
 && { /opt/igniter-opt/bin/python -m compileall -qq -j 0 /opt/igniter-opt/lib || true; }
# Compiled code, and the coefficients of the shipped profiles, where every user can read them.
RUN cd / \
 && /opt/igniter-opt/bin/igniter-opt warm-up \
 && /opt/igniter-opt/bin/igniter-opt profile list > /dev/null \
 && chmod -R a+rX /opt/igniter-opt/var

FROM ${BASE}
ARG CPU=generic
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="igniter-opt" \
      org.opencontainers.image.description="Cheapest GPU plans for DNN inference with latency SLOs, with a proof" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/igniter-opt /opt/igniter-opt
RUN echo "igniter:x:10001:10001::/home/igniter:/bin/sh" >> /etc/passwd \
 && echo "igniter:x:10001:" >> /etc/group \
 && mkdir -p /home/igniter /work /state \
 && chown 10001:10001 /home/igniter /work /state \
 && chmod 0700 /state
ENV PATH=/opt/igniter-opt/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/home/igniter \
    XDG_STATE_HOME=/state \
    NUMBA_CPU_NAME=${CPU} \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work
EXPOSE 8470
# Of `serve`, at the port that it was given; --no-healthcheck switches it off for what else runs for long
# (docs/container.md).
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-P", "-m", "igniter_opt.serve.health"]
ENTRYPOINT ["igniter-opt"]
CMD ["--help"]
